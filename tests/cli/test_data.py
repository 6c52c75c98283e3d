import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from personsearch.cli.data import app
from personsearch.datasets import detect_format
from personsearch.errors import DataError

runner = CliRunner()


def make(root: Path) -> Path:
    root.mkdir()
    images, rows = [], []
    for k, split in enumerate(("train", "train", "test", "test")):
        Image.new("RGB", (80, 60), (k, 0, 0)).save(root / f"{k}.jpg")
        image = {"id": k, "file_name": f"{k}.jpg", "width": 80, "height": 60, "split": split}
        images.append(image | {"camera": k % 2})
        person = k // 2
        rows.append({"id": k, "image_id": k, "bbox": [5, 5, 20, 40], "person_id": person})
    rows.append({"id": 9, "image_id": 3, "bbox": [5, 5, 0, 40], "person_id": 1})
    table = {"info": {"name": "mine"}, "images": images, "annotations": rows}
    (root / "scenes.json").write_text(json.dumps(table))
    return root


def test_stats(tmp_path: Path) -> None:
    make(tmp_path / "in")
    plot = tmp_path / "plot.png"
    result = runner.invoke(app, ["stats", str(tmp_path / "in"), "--json", "--plot", str(plot)])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["name"] == "mine"
    assert [split["boxes"] for split in report["splits"]] == [2, 2]
    assert report["protocols"] == ["all", "cross-camera"]
    assert report["dropped"] == {"box of zero or negative size": 1}
    assert plot.stat().st_size > 1000
    table = runner.invoke(app, ["stats", str(tmp_path / "in")])
    assert table.exit_code == 0
    assert "labelled boxes" in table.stdout
    assert "box of zero or negative size (1)" in table.stdout


def test_doctor_exits_by_what_it_finds(tmp_path: Path) -> None:
    root = make(tmp_path / "in")
    fine = runner.invoke(app, ["doctor", str(root)])
    assert fine.exit_code == 0
    assert "warning: box of zero or negative size (1)" in fine.stdout
    assert "mine: Problems found in 4 scenes, 4 people; warnings: 2." in fine.stdout
    table = json.loads((root / "scenes.json").read_text())
    table["annotations"].pop()
    Image.new("RGB", (80, 60), (99, 0, 0)).save(root / "0.jpg")
    (root / "scenes.json").write_text(json.dumps(table))
    result = runner.invoke(app, ["doctor", str(root)])
    assert result.stdout == "mine: No problems found in 4 scenes, 4 people.\n"
    (root / "1.jpg").write_bytes((root / "1.jpg").read_bytes()[:300])
    result = runner.invoke(app, ["doctor", str(root), "--json"])
    assert result.exit_code == 1
    findings = json.loads(result.stdout)["findings"]
    assert (findings[0]["severity"], findings[0]["what"]) == ("error", "unreadable picture")


@pytest.mark.parametrize("to", ["scenes", "cuhk-sysu", "prw"])
def test_convert(tmp_path: Path, to: str) -> None:
    out = tmp_path / "out"
    arguments = ["convert", str(make(tmp_path / "in")), str(out), "--to", to]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0
    assert detect_format(out) == to
    assert "not read: box of zero or negative size (1)" in result.stdout
    again = runner.invoke(app, [*arguments, "--json"])
    assert isinstance(again.exception, DataError)


def test_convert_reports_figures(tmp_path: Path) -> None:
    arguments = ["convert", str(make(tmp_path / "in")), str(tmp_path / "out"), "--to", "prw"]
    report = json.loads(runner.invoke(app, [*arguments, "--json"]).stdout)
    assert report["not read"] == {"box of zero or negative size": 1}
    assert report["not written"] == {}


def test_synth(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["synth", str(out), "--size", "tiny", "--workers", "1", "--json"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {split["split"] for split in report["splits"]} == {"train", "test"}
    assert (out / "scenes.json").is_file()


@pytest.mark.parametrize("command", ["synth", "doctor", "convert", "stats"])
def test_help_has_an_example(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Example: personsearch data" in result.stdout


def test_wrong_usage_exits_with_2(tmp_path: Path) -> None:
    assert runner.invoke(app, ["convert", str(tmp_path)]).exit_code == 2


def test_nothing_heavy_is_imported_for_help() -> None:
    code = (
        "import sys, personsearch.cli.data; "
        "print([m for m in ('torch', 'cv2', 'numpy', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
