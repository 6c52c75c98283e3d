"""`personsearch calibrate`, `timeline` and the options of `search`, on blocks of colour."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from blocks import paint
from colored_archive import index, use_blocks
from PIL import Image
from typer.testing import CliRunner

from personsearch.cli.main import app
from personsearch.search.calibration import FILE

runner = CliRunner()
HUES = [(255, 40, 0), (40, 255, 0), (0, 40, 255), (255, 255, 40)]
HUES += [(255, 40, 255), (40, 255, 255), (250, 250, 250), (255, 140, 30)]


def run(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout if not code else " ".join(result.output.replace("│", " ").split())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of two cameras, and labelled pictures of eight people, four views of each."""
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


def test_without_a_calibration_there_are_similarities(place: Path) -> None:
    table = run("search", "me.png")
    assert "similarity" in table
    assert "chance" not in table
    assert "probability" not in table
    hits = json.loads(run("search", "me.png", "--json"))
    assert hits["searched"] is None
    assert [hit["probability"] for hit in hits["hits"]] == [None] * 5
    said = run("timeline", "me.png", code=2)
    assert "no calibration" in said
    assert "--min-similarity" in said
    assert "needs a calibrated store" in run(
        "timeline", "me.png", "--min-probability", "0.5", code=2
    )


def test_calibrated_searches_show_probabilities(place: Path) -> None:
    report = json.loads(run("calibrate", "labelled", "--plot", "plot.png", "--json"))
    assert report["written"] == str(place / "store" / FILE)
    assert report["counts"]["identities"] == 8
    assert report["across"] == "pictures"
    # Of 32 views, 4 of each person, 2 in each of 16 pictures.
    assert report["counts"]["same"] == 8 * 6
    assert report["counts"]["other"] == 32 * 31 // 2 - 8 * 6 - 16
    assert [row["others"] for row in report["crowds"]] == [10, 100, 1000, 10000]
    with Image.open(place / "plot.png") as picture:
        assert np.asarray(picture).std() > 10
    hits = json.loads(run("search", "me.png", "--json"))
    assert hits["searched"] == 5
    found = [hit["probability"] for hit in hits["hits"]]
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < found[0] < 1
    assert [hit["chance"] for hit in hits["hits"]] == found  # the name of version 0.1
    many = json.loads(run("search", "me.png", "--expected", "3", "--json"))
    assert many["hits"][0]["probability"] > found[0]
    assert "probability" in run("search", "me.png")
    text = run("calibrate", "labelled", "--true-boxes", "--across", "pictures")
    assert "48 pairs of 8 people" in text
    assert "someone else comes first" in text
    assert "expected cameras or pictures" in run("calibrate", "labelled", "--across", "x", code=2)
    limit = ("timeline", "me.png", "--min-probability", "0.4", "--json")
    sightings = json.loads(run(*limit))["sightings"]
    assert all(one["probability"] == one["chance"] >= 0.4 for one in sightings)
    old = runner.invoke(app, ["timeline", "me.png", "--min-chance", "0.4", "--json"])
    assert json.loads(old.stdout)["sightings"] == sightings
    assert old.stderr == "warning: --min-chance is deprecated; use --min-probability\n"
    run("timeline", "me.png")  # half is the default


def test_a_time_line_by_similarity(place: Path) -> None:
    shown = run("timeline", "me.png", "--min-similarity", "0.99", "--out", "line.svg")
    assert "2026-11-21 13:00:00" in shown
    found = json.loads(run("timeline", "me.png", "--min-similarity", "0.99", "--json"))["sightings"]
    assert [(one["camera"], len(one["people"])) for one in found] == [("gate", 2), ("hall", 1)]
    assert found[0]["end"] - found[0]["begin"] == 120.0
    apart = run("timeline", "me.png", "--min-similarity", "0.99", "--gap", "60", "--json")
    assert len(json.loads(apart)["sightings"]) == 3
    assert "gate" in (place / "line.svg").read_text(encoding="utf-8")
    person = json.loads(run("timeline", "--person", "1", "--min-similarity", "0.99", "--json"))
    assert [len(one["people"]) for one in person["sightings"]] == [1, 1]
    assert "ending in .svg or .png" in run("timeline", "me.png", "--out", "x.gif", code=2)
    assert "no person is given" in run("timeline", code=2)
    none = run("timeline", "me.png", "--min-similarity", "1.0", "--camera", "nowhere")
    assert "no match reaches similarity 1; the best has nothing" in " ".join(none.split())


def test_options_of_search(place: Path) -> None:
    def cameras(*options: str) -> list[str]:
        return [hit["camera"] for hit in json.loads(run("search", *options, "--json"))["hits"]]

    assert cameras("me.png", "--source", "hall") == ["hall", "hall"]
    assert cameras("me.png", "--source", "gate", "--since", "2026-11-21T13:01") == ["gate"]
    assert cameras("me.png", "--one-per-file") == ["gate", "gate", "hall"]
    assert cameras("me.png", "--min-height", "21") == []
    assert cameras("me.png", "--score", "0.99", "--camera", "hall") == ["hall", "hall"]
    assert len(cameras("me.png", "--flat")) == 5
    assert len(cameras("--example", "me.png:0,0,10,20", "--example", "me.png")) == 5
    # Everyone in a picture that was given is left out.
    assert set(cameras("me.png", "--example", "hall/20261121_150000.png")) == {"gate"}
    for way in ("k-reciprocal", "expansion"):
        assert cameras("me.png", "--rerank", way)[0] == "gate"
        assert "similarity" in run("search", "me.png", "--rerank", way)
    run("search", "--example", "me.png", "--out", "hits.png")
    assert (place / "hits.png").is_file()
    assert "is not a box" in run("search", "--example", "me.png:1,2,3,x", code=2)
    assert "lies outside of" in run("search", "--example", "me.png:100,100,120,140", code=2)
    assert "--box needs a picture" in run("search", "--person", "1", "--box", "1,2,3,4", code=2)
    assert "exclude each other" in run("search", "me.png", "--in", ".", "--flat", code=2)
