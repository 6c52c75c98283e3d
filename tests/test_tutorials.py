"""The tutorials, followed to the letter: every block goes where it says, every command is run."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\S+\.(?:py|toml))(?:, into (\w+))?\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package that a tutorial may change."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _run(tree: Path, *command: str) -> str:
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, f"{shlex.join(command)}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def _place(tree: Path, block: str) -> None:
    """Writes a block to the file that its first line names, or its rest into a table there."""
    head = FILE.match(block)
    assert head, f"a block does not say where it goes:\n{block[:200]}"
    path, table = tree / head[1], head[2]
    if table is None:
        assert not path.exists(), f"{head[1]} exists already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.removeprefix(head[0]), encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    opening = f"\n{table} = {{\n"
    assert text.count(opening) == 1, f"{head[1]} has no table {table}"
    changed = text.replace(opening, opening + block.removeprefix(head[0]))
    path.write_text(changed, encoding="utf-8")


def _follow(tree: Path, document: str) -> list[str]:
    """Place every block of a document, run every command, and return what they printed."""
    printed = []
    for kind, block in BLOCK.findall((ROOT / "docs" / document).read_text(encoding="utf-8")):
        if kind != "sh":
            _place(tree, block)
            continue
        printed += [_run(tree, "-m", *shlex.split(line)) for line in block.splitlines()]
    return printed


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("document", "name", "own"),
    [
        ("add_a_loss.md", "oim-cosface", "cosface"),
        ("add_a_system.md", "softmax-baseline", "identity"),
    ],
)
def test_a_tutorial_ends_in_a_trained_model(tree: Path, document: str, name: str, own: str) -> None:
    printed = _follow(tree, document)
    assert " passed" in printed[0]
    run = tree / "runs" / name
    crops, *scenes = _log(run)
    assert crops["stage"] == "crops"
    assert set(crops["losses"]) == {"softmax"}
    assert [report["iteration"] for report in scenes] == [1, 2]
    for report in scenes:
        detection = {"rpn_objectness", "rpn_box", "detection", "box"}
        assert set(report["losses"]) == detection | {own}
        assert all(math.isfinite(loss) and loss >= 0 for loss in report["losses"].values())
        assert report["losses"][own] > 0
    recipe = tomllib.loads((run / "last" / "recipe.toml").read_text(encoding="utf-8"))
    assert (recipe["system"], recipe["embedding_dim"]) == (name, 32)
    tensors = load_file(run / "last" / "model.safetensors")
    if document == "add_a_loss.md":
        assert tensors["cosface.lookup.values"].any()
    else:
        assert tensors["embedder.weight"].shape == (32, 64)
        assert "Detection" in printed[-1]
        assert "context" in printed[-1]


def test_the_tutorials_know_every_link_and_no_stranger() -> None:
    """What is named in the text is there; what the tutorials add is not."""
    for document in ("add_a_loss.md", "add_a_system.md"):
        text = (ROOT / "docs" / document).read_text(encoding="utf-8")
        added = {head[0] for head in FILE.findall(text) if not head[1]}
        assert len(added) == (4 if document == "add_a_loss.md" else 3)
        assert not any((ROOT / path).exists() for path in added)
        outside = BLOCK.sub("", text)
        for path in re.findall(r"`((?:src|tests|recipes)/\S+\.(?:py|toml|md))`", outside):
            assert (ROOT / path).exists(), f"{document} names {path}"
