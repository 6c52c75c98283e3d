"""Erased people are gone, with every copy of them."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from few_people import MODEL, STAMP, everything, found, vectors

from personsearch.errors import StoreError
from personsearch.store import (
    Filters,
    open_store,
)


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        (Filters(people=(2,)), {2}),
        (Filters(until=200.0), {1, 2, 3, 4}),
        (Filters(cameras=("door",)), {5, 6, 7, 8, 9}),
        (Filters(sources=("/photos",), names=("deep/b.jpg",)), {3, 4}),
    ],
)
def test_whoever_is_erased_is_nowhere_in_the_folder(
    folder: Path, filters: Filters, gone: set[int]
) -> None:
    with open_store(folder) as store:
        _, matrix = store.embeddings()
        secrets = [matrix[i - 1].tobytes() for i in gone] + [store.thumbnail(i) for i in gone]
        (rest, *_) = sorted(set(range(1, 10)) - gone)
        stays = matrix[rest - 1].tobytes()
    assert all(secret in everything(folder) for secret in secrets)
    with open_store(folder, write=True) as store:
        before = store.revision()
        assert store.erase(filters) == len(gone)
        assert store.revision() > before
        # While the store is still open, too.
        assert not any(secret in everything(folder) for secret in secrets)
        assert set(store.embeddings()[0].tolist()) == set(range(1, 10)) - gone
    assert stays in everything(folder)
    with open_store(folder) as store, pytest.raises(StoreError, match=f"no person {min(gone)}"):
        store.people([min(gone)])


@pytest.mark.parametrize("empty", [[], (), set(), frozenset(), "", {}, range(0)])
def test_an_empty_list_of_files_erases_none(folder: Path, empty: Any) -> None:
    with open_store(folder, write=True) as store:
        assert store.erase_files("/photos", empty) == 0
        assert store.counts()["people"] == 9
        assert {file.state for file in store.known_files("/photos").values()} == {"whole"}


@pytest.mark.parametrize("names", [None, ("a.jpg",)])
def test_erased_files_stay_known_and_empty(folder: Path, names: tuple[str, ...] | None) -> None:
    with open_store(folder) as store:
        secret = store.thumbnail(1)
    with open_store(folder, write=True) as store:
        assert store.erase_files("/photos", names) == (2 if names else 4)
        states = {name: file.state for name, file in store.known_files("/photos").items()}
        assert states == {"a.jpg": "erased", "deep/b.jpg": "whole" if names else "erased"}
        assert secret not in everything(folder)
        with pytest.raises(StoreError, match="has no source '/elsewhere'"):
            store.erase_files("/elsewhere")
        with pytest.raises(StoreError, match=r"has no file 'c\.jpg'"):
            store.erase_files("/photos", ["c.jpg"])


def test_forgotten_files_are_gone_and_may_come_back(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        secret = store.thumbnail(1)
        assert store.forget_files("/photos", ["a.jpg", "none.jpg"]) == 2
        assert store.known_files("/photos").keys() == {"deep/b.jpg"}
        assert secret not in everything(folder)
        assert store.counts()["people"] == 7
        store.add(store.begin_file("/photos", "a.jpg", STAMP), [found(2, 0)], finished=True)
        assert store.counts()["people"] == 9


def test_everyone_is_not_erased_by_mistake(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        with pytest.raises(StoreError, match="no person, picture, source or time was named"):
            store.erase(Filters())
        assert store.counts()["people"] == 9


def test_compacting_gives_room_back(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        file = store.begin_file("/long.mp4", "", STAMP)
        store.add(file, [found(3, 1, frame=n) for n in range(800)], finished=True)
        full = sum(path.stat().st_size for path in folder.iterdir())
        store.erase_files("/long.mp4")
        store.compact()
        assert sum(path.stat().st_size for path in folder.iterdir()) < full / 2
        assert store.counts()["people"] == 9


def test_no_copy_stays_in_free_pages(tmp_path: Path) -> None:
    """Rows that SQLite moved from page to page before they were erased."""
    generator, left = np.random.default_rng(0), set()
    with open_store(tmp_path, model=MODEL, write=True) as store:
        store.execute("PRAGMA synchronous = OFF")  # quicker; the pages are the same
        for number in range(400):
            sizes = generator.choice([30, 300, 900, 2500, 6000], 3)
            people = replace(
                found(3),
                embeddings=vectors(3, number),
                thumbnails=[generator.bytes(size) for size in sizes],
            )
            file = store.begin_file("/photos", f"{number}.jpg", STAMP)
            store.add(file, [people], finished=True)
        for _ in range(8):
            ids = store.embeddings()[0]
            gone = ids[generator.random(len(ids)) < generator.choice([0.05, 0.4])].tolist()
            secrets = [store.thumbnail(person)[-24:] for person in gone]
            assert store.erase(Filters(people=gone)) == len(gone) > 0
            there = everything(tmp_path)
            left |= {secret for secret in secrets if secret in there}
    assert not left


def test_what_an_erasing_left_is_overwritten_by_the_next(folder: Path) -> None:
    with open_store(folder) as store:
        secret = store.thumbnail(2)
    with open_store(folder, write=True) as store, open_store(folder) as reader:
        store.execute("PRAGMA busy_timeout = 20")
        with reader.snapshot():
            reader.counts()
            with pytest.raises(StoreError, match=r"another process is reading .* same command"):
                store.erase(Filters(people=(2,)))
        assert store.counts()["people"] == 8
        assert secret in everything(folder)
        assert store.expire() == 0
        assert secret not in everything(folder)


def test_who_is_too_old_is_erased(folder: Path) -> None:
    day = 86_400.0
    with open_store(folder, write=True) as store:
        store.add(store.begin_file("/photos", "c.jpg", STAMP), [found(1, 60)], finished=True)
        secrets = [store.thumbnail(person) for person in (1, 2, 3, 4)]
        now = 200.0 + 7 * day
        assert store.retention() is None
        assert store.expire(now) == 0
        store.set_retention(7)
        assert store.retention() == 7
        assert store.expire(100.0 + 7 * day) == 0
        assert store.outdated(now) == 4
        assert store.expire(now) == 4
        assert store.expire(now) == 0
        assert not any(secret in everything(folder) for secret in secrets)
        # The time of c.jpg is not known: it was added just now.
        assert store.embeddings()[0].tolist() == [5, 6, 7, 8, 9, 10]
        assert store.expire(time.time() + 6 * day) == 5
        assert store.expire(time.time() + 8 * day) == 1
        # Indexing leaves out what has expired.
        assert {one.state for one in store.known_files("/photos").values()} == {"whole"}
        for days in (0, -1, float("inf"), float("nan")):
            with pytest.raises(StoreError, match="expected a number above 0"):
                store.set_retention(days)
        store.set_retention(None)
        assert store.expire(1e12) == 0
