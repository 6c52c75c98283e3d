"""`personsearch search`: exit codes, the table, JSON and the picture; a fake model stands in."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from personsearch import loading
from personsearch.cli.search import search
from personsearch.errors import DataError, PictureError
from personsearch.media.pictures import read_picture
from personsearch.systems.crop_embedders import ExtractorEmbedder
from personsearch.systems.two_step import TwoStep

app = typer.Typer()
app.command()(search)
runner = CliRunner()


class Blocks:
    """Finds the 10 x 20 blocks at x = 0 and 20 that are not black."""

    def __call__(self, pictures: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for picture in pictures:
            boxes = [[x, 0, x + 10, 20] for x in (0, 20) if picture[5, x + 5].any()]
            scores = [0.9, 0.8][: len(boxes)]
            found.append((np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32)))
        return found


def mean_color(crop: np.ndarray) -> np.ndarray:
    mean: np.ndarray = crop.reshape(-1, 3).mean(axis=0)
    return mean


def paint(path: Path, *colors: tuple[int, int, int]) -> None:
    canvas = np.zeros((30, 60, 3), dtype=np.uint8)
    for x, color in zip((0, 20), colors, strict=False):
        canvas[:20, x : x + 10] = color
    cv2.imwrite(str(path), canvas[..., ::-1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def load(path: Path, device: torch.device | str = "cpu") -> TwoStep:
        assert path == Path("pair.toml")
        return TwoStep(Blocks(), ExtractorEmbedder(mean_color))

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "photos"
    root.mkdir()
    paint(tmp_path / "me.png", (255, 0, 0), (0, 0, 255))
    paint(root / "far.png", (0, 255, 0))
    paint(root / "near.png", (90, 0, 255), (255, 20, 0))
    (root / "broken.jpg").write_bytes(b"no picture")
    return root


def run(*arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(
        app,
        ["me.png", "--in", "photos", "--model", "pair.toml", *arguments],
        env={"COLUMNS": "120"},
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_table_ranks_and_the_notes_name_what_was_left_out(folder: Path) -> None:
    code, out, notes = run("--box", "0,0,10,20")
    assert code == 0
    rows = [line for line in out.splitlines() if ".png" in line]
    assert [row.split("│")[2].strip() for row in rows] == ["near.png", "near.png", "far.png"]
    assert "20,0,30,20" in rows[0]
    assert "0.997" in rows[0]
    assert "3 people in 2 pictures" in notes
    assert "1 could not be read" in notes
    assert "broken.jpg: is not a picture" in notes
    assert "highest-scoring" not in notes


def test_json_is_all_of_stdout(folder: Path) -> None:
    code, out, notes = run("--box=0,0,10,20", "--json", "--top", "1")
    assert code == 0
    assert notes == ""
    report = json.loads(out)
    assert [hit["picture"] for hit in report["hits"]] == ["near.png"]
    assert report["hits"][0]["box"] == [20, 0, 30, 20]
    assert report["hits"][0]["similarity"] == pytest.approx(0.9969, abs=1e-3)
    assert report["unreadable"][0]["path"].endswith("broken.jpg")


def test_without_a_box_it_says_whom_it_looks_for(folder: Path) -> None:
    code, _, notes = run()
    assert code == 0
    assert "searching for the highest-scoring person in me.png, box 0,0,10,20 (score 0.90)" in notes
    assert "also there: --box 20,0,30,20 (score 0.80)" in notes


def test_the_hits_are_drawn(folder: Path) -> None:
    code, _, notes = run("--out", "hits.png")
    assert code == 0
    assert "hits drawn to hits.png" in notes
    sheet = read_picture(Path("hits.png"))
    assert (sheet == (255, 0, 0)).all(axis=2).sum() > 1000  # the query's red


def test_the_score_threshold_leaves_people_out(folder: Path) -> None:
    assert "2 people in 2 pictures" in run("--score-threshold", "0.85")[2]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("1,2,3", "is not a box"),
        ("a,b,c,d", "is not a box"),
        ("10,0,0,20", "is not a box"),
        ("0,0,nan,20", "is not a box"),
        ("0,0,inf,20", "is not a box"),
        ("60,0,90,20", "lies outside of me.png, which has 60 x 30 pixels"),
    ],
)
def test_a_wrong_box_is_wrong_usage(folder: Path, box: str, message: str) -> None:
    code, _, notes = run("--box", box)
    assert code == 2
    assert message in " ".join(notes.replace("│", " ").split())


@pytest.mark.parametrize(
    "wrong",
    [["--out", "hits.gif"], ["--top", "0"], ["--score-threshold", "2"], ["--device", "tpux"]],
)
def test_wrong_options_are_wrong_usage(folder: Path, wrong: list[str]) -> None:
    assert run(*wrong)[0] == 2


def test_missing_files_raise_one_clear_error(folder: Path) -> None:
    Path("me.png").unlink()
    with pytest.raises(PictureError, match="no such picture"):
        run("--box", "0,0,10,20")
    paint(Path("me.png"), (255, 0, 0))
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no pictures in it"):
        run()


def test_an_interrupt_prints_what_was_found_and_exits_130(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stop(self: Blocks, pictures: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        box, score = np.array([[0, 0, 10, 20]], np.float32), np.array([0.9], np.float32)
        return [(box, score) for _ in pictures]

    monkeypatch.setattr(Blocks, "__call__", stop)
    code, out, notes = run("--box", "0,0,10,20")
    assert code == 130
    assert "far.png" in out
    assert "near.png" not in out
    assert "1 person in 1 picture, stopped early" in notes


def test_importing_the_command_is_cheap() -> None:
    check = (
        "import sys, personsearch.cli.search; "
        "print([m for m in ('torch', 'cv2', 'numpy', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
