"""Files, pictures and people are written as a whole or not at all, under ids of their own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from few_people import STAMP, found, vectors

from personsearch.errors import StoreError
from personsearch.store import (
    FileStamp,
    Filters,
    TrackSpan,
    open_store,
)
from personsearch.store.clock import LATEST
from personsearch.store.people import PictureRow, TrackRow


def test_a_file_that_changed_is_done_again(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        same = store.begin_file("/photos", "a.jpg", STAMP, "phone")
        assert store.known_files("/photos")["a.jpg"].id == same
        assert store.counts()["people"] == 9
        other = store.begin_file("/photos", "a.jpg", FileStamp(1001, 5), "phone")
        assert store.counts()["people"] == 7
        store.add(other, [found(1, 30)], finished=True)
        assert store.people_in(Path("/photos/a.jpg")) == [10]


def test_a_picture_is_there_whole_or_not_at_all(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        before = store.counts()
        file = store.begin_file("/photos", "c.jpg", STAMP)
        wrong = replace(found(2, 40), embeddings=np.zeros((2, 3), np.float32))
        with pytest.raises(StoreError, match=r"shape \(2, 3\) for 2 people, expected"):
            store.add(file, [found(1, 41, frame=1), wrong])
        store.add(file, [found(1, 42, frame=1)])
        with pytest.raises(StoreError, match="there already"):
            store.add(file, [found(2, 43, frame=2), found(1, 44, frame=1)])
        assert store.counts() == before | {
            "files": before["files"] + 1,
            "pictures": before["pictures"] + 1,
            "people": before["people"] + 1,
        }


def test_nobody_gets_the_id_of_someone_who_was_erased(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        store.erase(Filters(people=(9,)))
        store.add(store.begin_file("/photos", "c.jpg", STAMP), [found(1, 60)], finished=True)
        assert store.people_in(Path("/photos/c.jpg")) == [10]


@pytest.mark.parametrize("wrong", [1e300, -1e300, 253402300799.0, float("inf"), float("nan")])
def test_times_that_no_calendar_has_are_unknown(folder: Path, wrong: float) -> None:
    with open_store(folder, write=True) as store:
        file = store.begin_file("/more", "a.mp4", STAMP)
        store.add(file, [found(1, 1, frame=0, time=wrong, position=wrong)], finished=True)
        (id,) = store.people_of(file)
        (person,) = store.people([id])
        assert person.time is None
        assert person.position is None
        row = PictureRow(1, 0.5, wrong, 1e300, 64, 48)
        with store.writing():
            store.insert_picture(file, row)
            store.insert_track(file, TrackRow(-1.0, wrong, 1))
        ((time, added),) = store.query("SELECT time, added FROM pictures WHERE frame = 1")
        assert (time, added) == (None, LATEST)
        assert list(store.query("SELECT first, last FROM tracks")) == [(0.0, 0.0)]


@pytest.mark.parametrize("whole", [True, False])
def test_nobody_is_put_into_an_erased_file(folder: Path, whole: bool) -> None:
    with open_store(folder, write=True) as store:
        file = store.begin_file("/photos", "c.jpg", STAMP, content=b"c" * 32)
        store.add(file, [found(2)], finished=True)
        (first, *_), ids = store.people([1]), store.people_of(file)
        records = [(one, vectors(1)[0].astype(np.float16), b"") for one in store.people(ids)]
        if whole:
            store.erase_files("/photos", ["c.jpg"])
        else:
            store.erase(Filters(people=ids[:1]))
        before = store.counts()
        other = replace(first, id=99, name="d.jpg")
        with pytest.raises(StoreError, match=r"'/photos/c\.jpg', or people of it, were erased"):
            store.put([(other, records[0][1], b""), *records])
        assert store.counts() == before
        store.unerase("/photos", ["c.jpg"])
        store.put(records)
        assert set(ids) <= set(store.embeddings()[0].tolist())


def test_nobody_is_put_into_a_track_of_another_file(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        (person,) = store.people([5])
        half = vectors(1)[0].astype(np.float16)
        span = TrackSpan(7, 0.0, 1.0, 2)
        store.put([(replace(person, track=span), half, b"")])
        other = replace(person, id=99, name="other.mp4", track=span)
        with pytest.raises(StoreError, match=r"track 7 of '.*/other.mp4' is a track of another"):
            store.put([(other, half, b"")])
        assert store.erase(Filters(people=(5,))) == 1
