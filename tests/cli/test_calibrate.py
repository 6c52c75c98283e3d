"""`personsearch calibrate`, and the probabilities of calibrated searches."""

import json
from pathlib import Path

import numpy as np
from labelled_blocks import run
from PIL import Image
from typer.testing import CliRunner

from personsearch.cli.main import app
from personsearch.search.calibration import FILE


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
    old = CliRunner().invoke(app, ["timeline", "me.png", "--min-chance", "0.4", "--json"])
    assert json.loads(old.stdout)["sightings"] == sightings
    assert old.stderr == "warning: --min-chance is deprecated; use --min-probability\n"
    run("timeline", "me.png")  # half is the default
