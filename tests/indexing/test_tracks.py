"""Tracks: who goes on as whom, and which views are kept."""

from pathlib import Path

import numpy as np
import pytest

from personsearch.indexing.tracks import MAX_GAP, link_detections
from personsearch.store import Filters, FoundPeople, ModelIdentity, open_store
from personsearch.store.tracks import VIEWS, FrameDetection, Track
from personsearch.types import FileStamp

DIM = 32
LOOKS = np.eye(DIM, dtype=np.float32)


def seen(
    id: int, frame: int, x: float, look: int, *, y: float = 0.0, score: float = 0.9
) -> FrameDetection:
    generator = np.random.default_rng(id)
    vector = LOOKS[look] + 0.08 * generator.normal(size=DIM).astype(np.float32)
    box = np.array([x, y, x + 20, y + 50], np.float32)
    return FrameDetection(id, frame, float(frame), box, score, vector / np.linalg.norm(vector))


def members(tracks: list[Track]) -> list[list[int]]:
    return [[one.id for one in track.detections] for track in tracks]


def test_people_who_cross_stay_themselves() -> None:
    """Two walk towards each other, stand in one place in frame 5, and go on."""
    people = []
    for frame in range(11):
        people.append(seen(2 * frame, frame, 10.0 * frame, 0))
        people.append(seen(2 * frame + 1, frame, 100 - 10.0 * frame, 1))
    generator = np.random.default_rng(0)
    for _ in range(3):
        generator.shuffle(people)  # type: ignore[arg-type]
        assert members(link_detections(people)) == [
            [2 * f for f in range(11)],
            [2 * f + 1 for f in range(11)],
        ]


def test_who_looks_alike_is_told_apart_by_place() -> None:
    people = [seen(2 * f + side, f, 300.0 * side, 0) for f in range(6) for side in (0, 1)]
    assert members(link_detections(people)) == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]


def test_who_is_too_far_or_gone_too_long_is_another_track() -> None:
    assert members(link_detections([seen(0, 0, 0, 0), seen(1, 1, 400, 0)])) == [[0], [1]]
    late = int(MAX_GAP)
    assert members(link_detections([seen(0, 0, 0, 0), seen(1, late, 0, 0)])) == [[0, 1]]
    assert members(link_detections([seen(0, 0, 0, 0), seen(1, late + 1, 0, 0)])) == [[0], [1]]
    assert members(link_detections([seen(0, 0, 0, 0), seen(1, 1, 0, 1)])) == [[0], [1]]
    assert link_detections([]) == []


def test_the_best_of_each_part_is_kept() -> None:
    track = Track()
    for frame in range(20):
        track.add(seen(frame, frame, 0, 0, score=0.9 if frame % 4 == 1 else 0.5))
    assert [one.id for one in track.best_views(5)] == [1, 5, 9, 13, 17]
    assert len(track.best_views(99)) == 20
    np.testing.assert_allclose(np.linalg.norm(track.mean), 1.0, rtol=1e-6)


def test_a_video_in_the_store_becomes_tracks(tmp_path: Path) -> None:
    """Someone stands still for 200 frames, another is there for 3."""
    model = ModelIdentity("made", "e" * 64, DIM)
    with open_store(tmp_path, model=model, write=True) as store:
        file = store.begin_file("/door.mp4", "", FileStamp(1, 1), "door")
        for frame in range(200):
            here = [seen(1000 + frame, frame, 5, 0)]
            here += [seen(2000 + frame, frame, 200, 3)] if 50 <= frame < 53 else []
            found = FoundPeople(
                (640, 480),
                np.stack([one.box for one in here]),
                np.array([one.score for one in here], np.float32),
                np.stack([one.vector for one in here]),
                [b"jpeg"] * len(here),
                frame=frame,
                position=frame / 1.0,
            )
            store.add(file, [found])
        assert store.counts()["people"] == 203
        changes = store.revision()
        store.finish_video(file, link_detections(store.frame_detections(file)))
        assert store.revision() == changes + 1
        counts = store.counts()
        assert (counts["tracks"], counts["people"]) == (2, VIEWS + 3)
        people = store.people(store.embeddings()[0].tolist())
        spans = {person.track for person in people}
        assert {(s.first, s.last, s.views) for s in spans if s} == {(0, 199, 200), (50, 52, 3)}
        assert store.known_files("/door.mp4")[""].state == "whole"
        assert store.known_files("/door.mp4")[""].frames == 200
        assert store.damage() == ""
        # The parts of the long track are all there.
        frames = [p.frame for p in people if p.track and p.track.views == 200]
        assert [int(f) // 40 for f in sorted(frames)] == [0, 1, 2, 3, 4]  # type: ignore[type-var]
        # A person is a track: all views go, and those of the other stay.
        short = next(p.id for p in people if p.track and p.track.views == 3)
        assert store.erase(Filters(people=(short,))) == 3
        counts = store.counts()
        assert (counts["tracks"], counts["people"]) == (1, VIEWS)
        store.erase_files("/door.mp4")
        counts = store.counts()
        assert (counts["tracks"], counts["people"]) == (0, 0)


@pytest.mark.parametrize("grouped", [True, False])
def test_a_search_shows_a_track_once(tmp_path: Path, grouped: bool) -> None:
    from personsearch.engines.sqlite import StoreEngine
    from personsearch.search.people_search import search_people

    model = ModelIdentity("made", "e" * 64, DIM)
    with open_store(tmp_path, model=model, write=True) as store:
        for number in range(3):
            file = store.begin_file(f"/{number}.mp4", "", FileStamp(1, 1))
            for frame in range(4):
                one = seen(10 * number + frame, frame, 5, number)
                row = (one.box[None], np.ones(1, np.float32), one.vector[None], [b"j"])
                found = FoundPeople((64, 48), *row, frame=frame, position=float(frame))
                store.add(file, [found])
            store.finish_video(file, link_detections(store.frame_detections(file)))
    with StoreEngine(tmp_path) as engine:
        matches = search_people(engine, LOOKS[1], top=4, grouped=grouped)
    places = [match.person.source for match in matches]
    if grouped:
        assert places[0] == "/1.mp4"
        assert sorted(places) == ["/0.mp4", "/1.mp4", "/2.mp4"]
    else:
        assert places == ["/1.mp4"] * 4
