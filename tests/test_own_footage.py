"""The tutorial on one's own photos and videos, command by command; blocks of colour are people."""

import json
import os
import re
import shlex
from pathlib import Path

import av
import numpy as np
import pytest
from blocks import GREEN, RED, paint
from colored_archive import use_blocks
from PIL import Image
from typer.testing import CliRunner

from personsearch.cli.main import app

ROOT = Path(__file__).parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUN = {"index", "search", "timeline", "calibrate", "erase"}


def make_footage(folder: Path) -> None:
    """What the tutorial says that is there."""
    paint(folder / "photos" / "gate" / "20261121_130000.jpg", RED, GREEN)
    paint(folder / "photos" / "hall" / "20261121_153000.jpg", GREEN, RED)
    (folder / "videos").mkdir()
    still = paint(folder / "still.png", RED)
    with av.open(str(folder / "videos" / "yard_20261121-170000.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        picture = Image.new("RGB", (64, 48))
        picture.paste(Image.open(still))
        for _ in range(25):
            for packet in stream.encode(av.VideoFrame.from_image(picture)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    Image.new("RGB", (1920, 1080), RED).save(folder / "me.jpg")
    images, people = [], []
    for number in range(10):
        colors = [(255, 40 * (number % 5), 0), (0, 255, 40 * (number % 5))]
        paint(folder / "labelled" / f"{number}.png", *colors)
        images.append({"id": number, "file_name": f"{number}.png", "width": 60, "height": 30})
        for column in (0, 1):
            who = 2 * (number % 5) + column
            box = [20 * column, 0, 10, 20]
            row = {"image_id": number, "category_id": 1, "person_id": who, "bbox": box}
            people.append({"id": len(people) + 1, **row})
    table = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
    (folder / "labelled" / "people.json").write_text(json.dumps(table), encoding="utf-8")


def test_every_command_of_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_blocks(monkeypatch)
    monkeypatch.chdir(tmp_path)
    make_footage(tmp_path)
    runner, ran = CliRunner(), []
    for kind, block in BLOCK.findall(TUTORIAL):
        if kind == "python":
            exec(compile(block, "tutorial", "exec"), {})
            continue
        assert kind == "sh"
        for line in block.splitlines():
            words = shlex.split(line.replace("$PWD", str(tmp_path)))
            if words[0] == "export":
                monkeypatch.setenv(*words[1].split("="))
            elif words[0] == "personsearch" and words[1] in RUN:
                result = runner.invoke(app, words[1:], env={"COLUMNS": "160"})
                assert result.exit_code == 0, (line, result.output, result.exception)
                ran.append((words[1], result.stdout))
            else:
                # What needs a network.
                assert line in (
                    "pip install 'personsearch[openvino,onnx]'",
                    "personsearch models pull",
                )
    assert {name for name, _ in ran} == RUN
    assert os.environ["PERSONSEARCH_STORE"] == "people"
    searches = [text for name, text in ran if name == "search"]
    assert all("similarity" in text for text in searches)
    assert "20261121_130000.jpg" in searches[0]
    # The probability is shown from the calibration on, never before.
    assert ["probability" in text for text in searches] == [False] * (len(searches) - 1) + [True]
    for picture in ("found.jpg", "reliability.png"):
        with Image.open(tmp_path / picture) as image:
            assert np.asarray(image).std() > 10
    assert "gate" in (tmp_path / "line.svg").read_text(encoding="utf-8")
    assert (tmp_path / "photos" / "gate" / "20261121_130000.jpg").is_file()
