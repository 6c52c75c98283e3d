"""What the README tells a newcomer to type works, at the smallest size."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

TINY_RECIPE = """
system = "oim"
backbone = "small"
backbone_width = 16
iterations = 6
images_per_iteration = 2
crop_iterations = 2
crop_lr = 0.001
crop_loss = "softmax"
optimizer = "adamw"
lr = 0.001
loader_workers = 0
log_every = 3
validation_fraction = 0.2
min_size = 160
max_size = 240
precision = "float32"
anchor_sizes = [20, 40, 80]
aspect_ratios = [2.0]
score_threshold = 0.001
eval_score_threshold = 0.001
rpn_post_nms_top_n_train = 40
rpn_post_nms_top_n_test = 20
rois_per_image = 16
"""


def _commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("personsearch ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "tiny.toml").write_text(TINY_RECIPE, encoding="utf-8")
    return folder


def test_every_command_of_the_readme(folder: Path) -> None:
    commands = _commands()
    assert {command[1] for command in commands} >= {
        *("bench", "data", "train", "evaluate"),
        *("index", "search", "erase", "models"),
    }
    smaller = {"small": "tiny"}
    smaller |= dict.fromkeys(
        ("synthetic-small/oim", "recipes/synthetic-small/oim.toml"), "tiny.toml"
    )
    for command in commands:
        arguments = [smaller.get(word, word) for word in command[1:]]
        if command[1] == "bench" and "--jobs" in command:
            arguments.append("--show")  # its runs take hours
        if command[1] == "index":
            arguments += ["--score-threshold", "0"]  # so little trained, it is sure of nobody
        result = subprocess.run(
            [sys.executable, "-m", "personsearch", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        if command[1:3] == ["data", "synth"]:
            pictures = sorted((folder / "synth" / "images").glob("*.jpg"))
            (folder / "photos").mkdir()
            for picture in pictures[-4:]:
                shutil.copy(picture, folder / "photos")
            shutil.copy(pictures[-5], folder / "query.jpg")
    assert (folder / "runs" / "oim" / "best" / "model.safetensors").is_file()
    assert (folder / "hits.jpg").is_file()


def test_python_of_the_readme(folder: Path) -> None:
    """Runs after the commands, on what they made."""
    if not (folder / "runs").is_dir():
        test_every_command_of_the_readme(folder)
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_paths_named_in_the_documents_exist() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
