"""`personsearch timeline`: sightings by camera and time."""

import json
from pathlib import Path

from labelled_blocks import run


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
