"""What the README tells a newcomer to type works, at the smallest size."""

import re
import shlex
from pathlib import Path

import pytest
from blocks import GREEN, RED, paint
from colored_archive import use_blocks
from PIL import Image
from shell import personsearch

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


FOOTAGE, RESEARCH = (
    README[README.index(f"## {title}") :].split("\n## ")[0]
    for title in ("Search your own footage", "For researchers")
)
NEEDS_NETWORK = {
    "pip install -e '.[openvino,onnx,web]'",
    "pip install -e .",
    "personsearch models pull",
}


def _lines(section: str) -> list[str]:
    """The commands of a section that need no network."""
    blocks = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and line not in NEEDS_NETWORK]


def test_every_command_for_footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where blocks of colour are people; then the lines of Python."""
    use_blocks(monkeypatch)
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "photos" / "gate" / "20261121_130000.jpg", RED, GREEN)
    paint(tmp_path / "photos" / "hall" / "20261121_153000.jpg", GREEN, RED)
    (tmp_path / "videos").mkdir()
    Image.new("RGB", (640, 480), RED).save(tmp_path / "query.jpg")
    ran, erase = [], []
    for line in _lines(FOOTAGE):
        words = shlex.split(line)
        if words[0] == "export":
            monkeypatch.setenv(*words[1].split("="))
            continue
        assert words[0] == "personsearch"
        if words[1] == "erase":  # the lines of Python search for that person
            erase = words[1:]
            continue
        result = personsearch(*words[1:])
        assert result.returncode == 0, (line, result.stdout, result.stderr)
        ran.append(words[1])
    (code,) = re.findall(r"```python\n(.*?)```", FOOTAGE, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert personsearch(*erase).returncode == 0
    assert set(ran) == {"index", "search", "timeline"}
    assert (tmp_path / "found.jpg").is_file()


def test_every_command_for_researchers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which has loaded torch."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY_RECIPE, encoding="utf-8")
    ran = set()
    smaller = {"small": "tiny", "synthetic-small/oim": "tiny.toml"}
    for line in _lines(RESEARCH):
        command = shlex.split(line)
        assert command[0] == "personsearch"
        arguments = [smaller.get(word, word) for word in command[1:]]
        if command[1] == "bench" and "--jobs" in command:
            arguments.append("--show")  # its runs take hours
        result = personsearch(*arguments)
        assert result.returncode == 0, f"{line}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        ran.add(command[1])
    assert ran == {"data", "recipes", "train", "evaluate", "bench"}
    assert (tmp_path / "runs" / "oim" / "best" / "model.safetensors").is_file()


def test_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_paths_named_in_the_documents_exist() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
