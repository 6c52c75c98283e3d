"""A checkpoint, a store and an export made by version 0.1 open, search and evaluate equally."""

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from shell import personsearch

from personsearch.errors import RecipeError
from personsearch.training.recipe import read_recipe

pytestmark = pytest.mark.filterwarnings("ignore:.*keys of version 0.1:DeprecationWarning")

FIXTURE = Path(__file__).parent / "fixtures" / "v0_1"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text(encoding="utf-8"))
ALL_PROTOCOLS = ("cross-camera", "all", "gallery-5", "occlusion", "resolution")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the fixture as current folder, migrated; networks run in float32, one thread."""
    copy = shutil.copytree(FIXTURE, tmp_path / "v0_1")
    monkeypatch.chdir(copy)
    assert personsearch("store", "compact", "--store", "store").returncode == 0
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield copy
    torch.set_num_threads(threads)


def printed(*arguments: object) -> Any:
    """The JSON that a command prints."""
    result = personsearch(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def contains(found: Any, expected: Any) -> None:
    """All that 0.1 printed is there; new keys may have come."""
    if isinstance(expected, dict):
        assert found.keys() >= expected.keys()
        for key, value in expected.items():
            contains(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            contains(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    else:
        assert found == expected


def test_the_checkpoint_evaluates_equally(folder: Path) -> None:
    protocols = [part for name in ALL_PROTOCOLS for part in ("--protocol", name)]
    found = printed(
        *("evaluate", "checkpoint", "--data", "scenes", "--device", "cpu"),
        *(*protocols, "--context", "5,2"),
    )
    expected = EXPECTED["checkpoint"]["float32"]["protocols"]
    contains(found, expected)


def test_a_changed_meaning_is_refused(folder: Path) -> None:
    """A removed key of training may have any value in a checkpoint, but not in a new run."""
    with pytest.warns(DeprecationWarning, match="detection_weight is no longer a key"):
        assert read_recipe(folder / "checkpoint" / "recipe.toml", trained=True)
    with pytest.raises(RecipeError, match=r"detection_weight is 2\.0, but this key was removed"):
        read_recipe(folder / "checkpoint" / "recipe.toml")


def test_saved_detections_evaluate_equally(folder: Path) -> None:
    found = printed("evaluate", "detections.npz", "--data", "scenes")
    contains(found, EXPECTED["detections"]["default"])


@pytest.mark.parametrize("name", EXPECTED["store"]["searches"])
def test_the_store_is_searched_equally(folder: Path, name: str) -> None:
    expected = dict(EXPECTED["store"]["searches"][name])
    arguments = shlex.split(expected.pop("arguments"))
    found = printed("search", *arguments, "--store", "store", "--top", 5, "--device", "cpu")
    contains(found, expected)


def test_the_store_says_the_same_of_itself(folder: Path) -> None:
    expected = EXPECTED["store"]
    contains(printed("store", "info", "--store", "store"), expected["info"])
    contains(printed("keys", "list", "--store", "store"), expected["keys"])
    contains(printed("audit", "check", "--store", "store"), expected["audit"])
    contains(
        printed("timeline", "--person", 54, "--min-similarity", 0.5, "--store", "store"),
        expected["timeline"],
    )


def test_exports_have_the_same_bytes(folder: Path) -> None:
    personsearch("store", "export", "exported", "--store", "store")
    personsearch("store", "import", "export", "--store", "imported")
    personsearch("store", "export", "again", "--store", "imported")
    for made, expected in (("exported", "exported_again"), ("again", "exported_after_import")):
        digests = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(Path(made).iterdir())
        }
        assert digests == EXPECTED["store"][expected]


def test_the_store_is_written_to(folder: Path) -> None:
    arguments = ("--person", 54, "--store", "store", "--yes")
    assert personsearch("erase", *arguments).returncode == 0
    left = printed("store", "info", "--store", "store")["counts"]["people"]
    assert left < EXPECTED["store"]["count"]


def test_an_interrupted_run_is_finished_by_its_own_version(folder: Path) -> None:
    recipe = Path("checkpoint_last/last/recipe.toml")
    text = recipe.read_text(encoding="utf-8")
    Path("new.toml").write_text(text.replace('"own"', '"softmax"'), encoding="utf-8")
    before = {path: path.read_bytes() for path in Path("checkpoint_last").rglob("*.*")}
    result = personsearch(
        *("train", "new.toml", "--data", "scenes"),
        *("--out", "checkpoint_last", "--resume", "--device", "cpu"),
    )
    assert result.returncode == 1
    assert "of version 0.1, whose training differs; finish it with that version" in result.stderr
    assert before == {path: path.read_bytes() for path in Path("checkpoint_last").rglob("*.*")}
