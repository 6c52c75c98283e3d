"""A store of two cameras, and labelled pictures of eight people, four views of each."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from blocks import paint
from colored_archive import index, use_blocks
from typer.testing import CliRunner

from personsearch.cli.main import app

HUES = [(255, 40, 0), (40, 255, 0), (0, 40, 255), (255, 255, 40)]
HUES += [(255, 40, 255), (40, 255, 255), (250, 250, 250), (255, 140, 30)]


def make_footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_blocks(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSONSEARCH_STORE", str(tmp_path / "store"))
    paint(tmp_path / "gate" / "20261121_130000.png", HUES[0], HUES[1])
    paint(tmp_path / "gate" / "20261121_130200.png", HUES[0])
    paint(tmp_path / "hall" / "20261121_150000.png", HUES[2], HUES[0])
    index(tmp_path / "store", tmp_path / "gate", tmp_path / "hall")
    rng = np.random.default_rng(1)
    images, people = [], []
    (tmp_path / "labelled").mkdir()
    for picture in range(16):
        chosen = [picture % 8, (picture + 1) % 8]
        canvas = np.zeros((30, 60, 3), np.uint8)
        for x, who in zip((0, 20), chosen, strict=True):
            color = np.clip(np.array(HUES[who]) + rng.integers(-20, 20, 3), 1, 255)
            canvas[:20, x : x + 10] = color
            bbox = [x, 0, 10, 20]
            people.append(
                {"id": len(people) + 1, "image_id": picture, "bbox": bbox, "person_id": who}
            )
        cv2.imwrite(str(tmp_path / "labelled" / f"{picture}.png"), canvas[..., ::-1])
        images.append({"id": picture, "file_name": f"{picture}.png", "width": 60, "height": 30})
    for person in people:
        person["category_id"] = 1
    categories = [{"id": 1, "name": "person"}]
    (tmp_path / "labelled" / "people.json").write_text(
        json.dumps({"images": images, "annotations": people, "categories": categories})
    )
    paint(tmp_path / "me.png", HUES[0])
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    """Run a command in this process; its output, or on failure its errors as one line."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout if not code else " ".join(result.output.replace("│", " ").split())
