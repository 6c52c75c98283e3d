"""Schemas of people and timelines."""

from dataclasses import replace

import numpy as np
import pytest
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from personsearch.search.people_search import Match
from personsearch.store import StoredPerson, TrackSpan
from personsearch.web.people import check_people_exist, time_span, to_hits, to_person, to_timeline

BOX = np.array([1, 2, 30.123, 40], np.float32)
PHOTO = StoredPerson(7, "/photos", "a.jpg", BOX, 0.5, None, None, 100.0, "gate", (60, 80))
TRACK = replace(
    PHOTO, id=2**62, name="b.mp4", frame=50, position=5.0, track=TrackSpan(1, 3.0, 9.0, 8)
)


def test_a_person_has_text_ids_and_paths_of_pictures() -> None:
    photo, video = to_person(PHOTO), to_person(TRACK)
    assert (photo.id, photo.clip, photo.track) == ("7", None, None)
    assert photo.box == [1, 2, 30.12, 40]
    assert video.id == str(2**62)
    assert video.clip == f"/api/v1/people/{2**62}/clip"
    assert video.track is not None
    assert (video.track.first, video.track.last, video.track.views) == (3.0, 9.0, 8)


def test_time_spans_of_photos_and_tracks() -> None:
    assert time_span(PHOTO) == (100.0, 100.0)
    assert time_span(TRACK) == (98.0, 104.0)  # the video began at 95
    assert time_span(replace(TRACK, time=None)) is None


def test_the_timeline_is_by_camera_and_time() -> None:
    people = [
        TRACK,
        PHOTO,
        replace(PHOTO, camera=None, time=1.0),
        replace(PHOTO, time=None),
        replace(PHOTO, time=50.0),
    ]
    matches = [Match(one, 0.9, 0.9) for one in people]
    assert [hit.rank for hit in to_hits(matches)] == [1, 2, 3, 4, 5]
    lines = to_timeline(matches)
    assert [(line.camera, [one.rank for one in line.sightings]) for line in lines] == [
        ("gate", [5, 1, 2]),
        (None, [3]),
    ]


def test_missing_people_are_named(client: TestClient) -> None:
    engine = client.app.state.service.archive.engine  # type: ignore[attr-defined]
    check_people_exist(engine, [])
    check_people_exist(engine, [1, 2, 2])
    with pytest.raises(HTTPException, match="there is no person 999"):
        check_people_exist(engine, [1, 999])
