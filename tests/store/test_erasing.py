"""Erased people are gone, with every copy of them."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from few_people import MODEL, STAMP, everything, found, vectors

from personsearch.errors import StoreError
from personsearch.media.contents import content_of
from personsearch.store import FileStamp, Filters, Store, connection, open_store
from personsearch.store.audit import LOG, AuditLog


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


def test_what_an_erasing_left_is_overwritten_by_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_READERS", 0.1)
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


def actions(folder: Path) -> list[str]:
    return [entry.action for entry in AuditLog(folder).entries()]


def expire(store: Store) -> int:
    store.execute("UPDATE keeping SET days = 1")
    return store.expire(300 + 86_400.0)


def replace_version(store: Store) -> int:
    store.begin_file("/photos", "a.jpg", FileStamp(1, 1))
    return 2


WAYS = {
    "erase": lambda store: store.erase(Filters(people=[1])),
    "erase a camera": lambda store: store.erase(Filters(cameras=["door"])),
    "erase files": lambda store: store.erase_files("/photos", ["a.jpg"]),
    "expire": expire,
    "prune": lambda store: store.forget_files("/photos", ["a.jpg"]),
    "replace": replace_version,
}


@pytest.mark.parametrize("way", WAYS)
def test_nobody_is_erased_without_a_line_before(folder: Path, way: str) -> None:
    with open_store(folder, write=True, caller="anna") as store:
        before = store.erasure()
        (folder / LOG).mkdir()
        with pytest.raises(StoreError, match=r"audit\.jsonl: cannot be written"):
            WAYS[way](store)
        assert (store.counts()["people"], store.erasure()) == (9, before)
        (folder / LOG).rmdir()
        views = WAYS[way](store)
        assert store.counts()["people"] == 9 - views < 9
        assert store.erasure() != before
    wish, done = AuditLog(folder).entries()
    action = way.partition(" ")[0]
    assert (wish.action, wish.who) == (action, "anna")
    assert (done.action, done.who, done.details["views"]) == (
        action.rstrip("e") + "ed",
        "anna",
        views,
    )
    assert done.details == {**wish.details, "views": views}


def test_where_nobody_is_erased_there_is_no_line(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        assert store.expire() == 0
        store.begin_file("/photos", "new.jpg", STAMP)
        assert store.forget_files("/photos", ["new.jpg", "none.jpg"]) == 0
        store.begin_file("/photos", "a.jpg", STAMP)
        store.erase_files("/photos", ["a.jpg"])
        store.begin_file("/photos", "a.jpg", FileStamp(1, 1))
        assert store.forget_files("/photos", ["a.jpg"]) == 0
    assert actions(folder) == ["erase", "erased"]


def test_the_result_is_logged_even_if_copies_are_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_READERS", 0.1)
    with open_store(folder, write=True) as store, open_store(folder) as reader:
        store.execute("PRAGMA busy_timeout = 20")
        with reader.snapshot():
            reader.counts()
            with pytest.raises(StoreError, match="another process is reading"):
                store.erase(Filters(people=(2,)))
    assert actions(folder) == ["erase", "erased"]


def test_the_retention_is_logged_before_it_is_changed(folder: Path) -> None:
    with open_store(folder, write=True, caller="anna") as store:
        store.set_retention(30)
        store.set_retention(None)
        (folder / LOG).write_bytes(b"")
        with pytest.raises(StoreError, match="its end was changed"):
            store.set_retention(1)
        assert store.retention() is None


CONTENT = b"c" * 32


def add(store: Store, name: str, content: bytes | None, stamp: FileStamp = STAMP) -> bool:
    file = store.begin_file("/photos", name, stamp, None, content)
    return store.add(file, [found(2, 50)], finished=True)


@pytest.mark.parametrize("by_person", [False, True])
def test_a_renamed_copy_stays_out_until_it_is_allowed(folder: Path, by_person: bool) -> None:
    with open_store(folder, write=True) as store:
        assert add(store, "c.jpg", CONTENT)
        person = store.people_of(store.known_files("/photos")["c.jpg"].id)[0]
        if by_person:
            store.erase(Filters(people=[person]))
        else:
            store.erase_files("/photos", ["c.jpg"])
        assert store.is_erased(CONTENT)
        people = store.counts()["people"]
        assert not add(store, "copy.jpg", CONTENT)
        assert store.known_files("/photos")["copy.jpg"].state == "erased"
        assert add(store, "other.jpg", b"d" * 32)
        assert store.counts()["people"] == people + 2
        with pytest.raises(StoreError, match=r"nothing of source '/door\.mp4' was erased"):
            store.unerase("/door.mp4")
        assert store.unerase("/photos", ["copy.jpg"]) == 1
        assert not store.is_erased(CONTENT)
        assert "copy.jpg" not in store.known_files("/photos")
        assert add(store, "copy.jpg", CONTENT)
        # The file itself comes back with everyone when it is indexed.
        assert add(store, "c.jpg", CONTENT)
        assert store.counts()["people"] == people + 2 + 2 + (1 if by_person else 2)
    assert "unerase" in actions(folder)


def test_a_file_that_is_left_out_keeps_who_was_not_erased(folder: Path) -> None:
    touched = FileStamp(1000, 77)
    with open_store(folder, write=True) as store:
        add(store, "c.jpg", CONTENT)
        file = store.known_files("/photos")["c.jpg"].id
        gone, stays = store.people_of(file)
        store.erase(Filters(people=[gone]))
        store.leave_out("/photos", "c.jpg", touched, None, CONTENT)
        store.keep_file("/photos", "a.jpg", touched, CONTENT)  # of another content
        known = store.known_files("/photos")
        assert (known["c.jpg"].state, known["c.jpg"].stamp) == ("whole", touched)
        assert store.people_of(file) == [stays]
        assert known["a.jpg"].stamp == STAMP
        # Another file became a copy: the people of the earlier version are erased.
        store.leave_out("/photos", "a.jpg", touched, None, CONTENT)
        assert store.known_files("/photos")["a.jpg"].state == "erased"
    assert actions(folder)[-2:] == ["replace", "replaced"]


def test_files_of_version_0_1_are_hashed_when_they_are_erased(folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("same.jpg", "changed.jpg")]
    with open_store(folder, write=True) as store:
        for number, path in enumerate(paths):
            path.write_bytes(b"picture %d" % number)
            status = path.stat()
            stamp = FileStamp(status.st_size, status.st_mtime_ns - number)
            file = store.begin_file(str(tmp_path), path.name, stamp)
            store.add(file, [found(1, 60 + number)], finished=True)
        store.erase_files(str(tmp_path))
        assert store.erased_contents() == {content_of(paths[0])}
