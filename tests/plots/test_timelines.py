"""The picture of a time line names cameras and files, a row each."""

from pathlib import Path

import numpy as np
from PIL import Image

from personsearch.plots.timelines import plot_timeline
from personsearch.search.people_search import Match
from personsearch.search.timeline import timeline
from personsearch.store import StoredPerson


def match(camera: str, time: float | None, name: str = "a.jpg") -> Match:
    box = np.array([0, 0, 10, 20], np.float32)
    position = None if time is not None else 3.0
    person = StoredPerson(
        *(1, "/footage", name, box, 0.9, None, position, time, camera, (64, 48)), track=None
    )
    return Match(person, 0.8, 0.8)


def test_cameras_and_files_are_named(tmp_path: Path) -> None:
    matches = [match("gate", 1e9), match("hall", 1e9 + 3600), match("yard", None, "night.mp4")]
    plot_timeline(timeline(matches), tmp_path / "line.svg", "person 1")
    text = (tmp_path / "line.svg").read_text(encoding="utf-8")
    for name in ("gate", "hall", "yard: night.mp4", "person 1"):
        assert f"<!-- {name} -->" in text
    plot_timeline(timeline(matches), tmp_path / "line.png")
    with Image.open(tmp_path / "line.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0] > 60).any(axis=1)
    # Three rows of marks, apart from each other.
    assert np.count_nonzero(np.diff(blue.astype(int)) == 1) == 3


def test_nobody_seen_is_said(tmp_path: Path) -> None:
    plot_timeline([], tmp_path / "line.svg")
    assert "not seen" in (tmp_path / "line.svg").read_text(encoding="utf-8")
