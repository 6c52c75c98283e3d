"""Matches become sightings: joined where close in time at one camera, else apart."""

import itertools

import numpy as np
import pytest

from personsearch.search.people_search import Match
from personsearch.search.timeline import timeline
from personsearch.store import StoredPerson, TrackSpan

NUMBERS = itertools.count(1)


def match(
    camera: str | None,
    time: float | None,
    similarity: float = 0.8,
    *,
    name: str = "a.jpg",
    position: float | None = None,
    track: tuple[float, float] | None = None,
    probability: float | None = None,
) -> Match:
    span = None if track is None else TrackSpan(next(NUMBERS), *track, 3)
    frame = None if position is None else int(position * 25)
    box = np.array([0, 0, 10, 20], np.float32)
    person = StoredPerson(
        *(next(NUMBERS), "/footage", name, box, 0.9, frame, position, time, camera, (64, 48)),
        track=span,
    )
    return Match(person, similarity, similarity, probability)


def test_views_at_one_camera_are_joined_where_they_are_close() -> None:
    matches = [
        match("gate", 1000.0, 0.7),
        match("gate", 1200.0, 0.9),
        match("hall", 1100.0, 0.8),
        match("gate", 2000.0, 0.6),
    ]
    found = timeline(matches, gap=300.0)
    assert [(one.camera, one.begin, one.end) for one in found] == [
        ("gate", 1000.0, 1200.0),
        ("hall", 1100.0, 1100.0),
        ("gate", 2000.0, 2000.0),
    ]
    assert [m.similarity for m in found[0].matches] == [0.9, 0.7]
    assert found[0].similarity == 0.9
    assert found[0].probability is None
    assert len(timeline(matches, gap=800.0)) == 2
    assert len(timeline(matches, gap=799.9)) == 3
    # The order in which matches come does not matter.
    again = timeline(matches[::-1], gap=300.0)
    assert [one.as_json() for one in again] == [one.as_json() for one in found]


def test_a_track_counts_from_its_first_view_to_its_last() -> None:
    """A long track bridges what lies in it, though it is sorted before."""
    long = match("gate", 1050.0, name="v.mp4", position=50.0, track=(0.0, 600.0))
    inside = match("gate", 1100.0)
    after = match("gate", 1700.0)
    (found,) = timeline([after, inside, long], gap=100.0)
    assert (found.begin, found.end) == (1000.0, 1700.0)
    assert len(timeline([after, inside, long], gap=99.0)) == 2


def test_without_a_time_they_stand_last_a_file_apart() -> None:
    matches = [
        match("b", None, name="one.mp4", position=70.0, track=(60.0, 80.0)),
        match("b", None, name="one.mp4", position=100.0),
        match("b", None, name="two.mp4", position=90.0),
        match("b", None, name="photo.jpg"),
        match(None, 5.0),
    ]
    found = timeline(matches, gap=20.0)
    assert [(one.camera, one.begin, one.path and one.path.name) for one in found] == [
        (None, 5.0, None),
        ("b", None, "one.mp4"),
        ("b", None, "photo.jpg"),
        ("b", None, "two.mp4"),
    ]
    assert (found[1].first, found[1].last) == (60.0, 100.0)
    assert (found[2].first, found[2].last) == (None, None)
    assert found[1].as_json() == {
        "camera": "b",
        "begin": None,
        "end": None,
        "path": "/footage/one.mp4",
        "first": 60.0,
        "last": 100.0,
        "similarity": 0.8,
        "probability": None,
        "chance": None,
        "people": [m.person.id for m in found[1].matches],
    }


@pytest.mark.parametrize(
    ("least", "chance", "kept"), [(-1.0, None, 3), (0.75, None, 2), (-1.0, 0.5, 1), (0.95, 0.5, 0)]
)
def test_matches_below_are_left_out(least: float, chance: float | None, kept: int) -> None:
    matches = [
        match("a", 0.0, 0.9, probability=0.8),
        match("b", 0.0, 0.75, probability=0.4),
        match("c", 0.0, 0.5),
    ]
    assert len(timeline(matches, min_similarity=least, min_probability=chance)) == kept
