"""The store: what is written is read, what is erased is gone, what is wrong is said."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personsearch.errors import StoreError
from personsearch.store import (
    DATABASE,
    FileStamp,
    Filters,
    FoundPeople,
    ModelIdentity,
    Store,
    open_store,
)

DIM = 8
MODEL = ModelIdentity("omz", "a" * 64, DIM)
STAMP = FileStamp(1000, 5)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def found(count: int, seed: int = 0, **more: object) -> FoundPeople:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 50, (count, 2))
    sizes = np.stack([np.full(count, 10.0), 20.0 + 10 * np.arange(count)], axis=1)
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    scores = generator.uniform(0.5, 1.0, count)
    thumbnails = [b"JPEG" + bytes([seed, i]) * 30 for i in range(count)]
    return FoundPeople(
        (640, 480),
        boxes.astype(np.float32),
        scores.astype(np.float32),
        vectors(count, seed),
        thumbnails,
        **more,  # type: ignore[arg-type]
    )


def fill(store: Store) -> None:
    """Two photos of one source and three frames of a video of another; nine people."""
    for number, name in enumerate(("a.jpg", "deep/b.jpg")):
        file = store.begin_file("/photos", name, STAMP, "phone")
        store.add(file, [found(2, number, time=100.0 + number)], finished=True)
    file = store.begin_file("/door.mp4", "", STAMP, "door")
    store.add(file, [found(n, 10 + n, frame=5 * n, time=200.0 + n) for n in (0, 2, 3)])
    store.finish_file(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        fill(store)
    return tmp_path / "store"


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_what_is_written_is_read(folder: Path) -> None:
    with open_store(folder, model=MODEL) as store:
        assert store.model == MODEL
        counts = {"sources": 2, "files": 3, "pictures": 5, "people": 9, "tracks": 0}
        assert store.counts() == counts | {"unreadable": 0}
        ids, matrix = store.embeddings()
        assert ids.tolist() == list(range(1, 10))
        assert matrix.dtype == np.float16
        expected = np.concatenate([vectors(2, 0), vectors(2, 1), vectors(2, 12), vectors(3, 13)])
        assert np.array_equal(matrix, expected.astype(np.float16))
        last, first = store.people([9, 1])
        assert (first.path, first.camera, first.time) == (Path("/photos/a.jpg"), "phone", 100.0)
        assert (last.path, last.frame, last.size) == (Path("/door.mp4"), 15, (640, 480))
        np.testing.assert_allclose(first.box, found(2).boxes[0])
        assert first.score == pytest.approx(found(2).scores[0])
        assert store.thumbnail(2) == b"JPEG" + bytes([0, 1]) * 30
        assert store.thumbnail(99) == b""
        assert store.cameras() == {"door": 5, "phone": 4}
        known = store.known_files("/door.mp4")[""]
        assert (known.stamp, known.state, known.frames) == (STAMP, "whole", 3)
        assert store.frames(known.id) == {0, 10, 15}
        assert store.people_in(Path("/photos/deep/b.jpg")) == [3, 4]
        assert store.people_in(Path("/door.mp4")) == [5, 6, 7, 8, 9]
        assert store.people_in(Path("/photos/none.jpg")) == []
        assert store.damage() == ""


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(cameras=("phone",)), {1, 2, 3, 4}),
        (Filters(cameras=("phone", "door"), since=101.0), {3, 4, 5, 6, 7, 8, 9}),
        (Filters(since=100.5, until=202.5), {3, 4, 5, 6}),
        (Filters(min_height=35.0), {9}),
        (Filters(sources=("/photos",), names=("deep/b.jpg",)), {3, 4}),
        (Filters(people=(2, 9, 77)), {2, 9}),
        (Filters(cameras=("x' OR 1=1 --",)), set()),
        (Filters(cameras=('door"; DROP TABLE people; --', "dö\nor 🚪")), set()),
    ],
)
def test_filters(folder: Path, filters: Filters, expected: set[int]) -> None:
    with open_store(folder) as store:
        ids, matrix = store.embeddings(filters)
        assert set(ids.tolist()) == expected
        assert matrix.shape == (len(expected), DIM)
        assert store.counts()["people"] == 9


def test_min_score(folder: Path) -> None:
    with open_store(folder) as store:
        people = store.people(range(1, 10))
        ids, _ = store.embeddings(Filters(min_score=0.75))
        assert set(ids.tolist()) == {p.id for p in people if p.score >= 0.75}
        assert 0 < len(ids) < 9


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
        with pytest.raises(StoreError, match=r"shape \(2, 3\) came for 2 people, expected"):
            store.add(file, [found(1, 41, frame=1), wrong])
        store.add(file, [found(1, 42, frame=1)])
        with pytest.raises(StoreError, match="there already"):
            store.add(file, [found(2, 43, frame=2), found(1, 44, frame=1)])
        assert store.counts() == before | {
            "files": before["files"] + 1,
            "pictures": before["pictures"] + 1,
            "people": before["people"] + 1,
        }


def test_another_model_is_refused_with_a_remedy(folder: Path) -> None:
    other = ModelIdentity("mine", "b" * 64, DIM)
    for write in (False, True):
        with (
            pytest.raises(StoreError, match=r"made by model 'omz' .* Use --model omz"),
            open_store(folder, model=other, write=write),
        ):
            pass


def test_no_store(tmp_path: Path) -> None:
    for write in (False, True):
        with (
            pytest.raises(StoreError, match=r"no store here; .* personsearch index"),
            open_store(tmp_path / "none", write=write),
        ):
            pass
    assert not (tmp_path / "none").exists()


def test_a_newer_store_and_another_database(folder: Path) -> None:
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match=r"newer version .*schema 99.* update"), open_store(folder):
        pass
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("PRAGMA application_id = 7")
    connection.close()
    with pytest.raises(StoreError, match="database of something else"), open_store(folder):
        pass


def test_blocks_in_which_more_than_appending_was_done(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        people = store.people([1, 9])
        half = vectors(2, 60).astype(np.float16)

        def put(number: int) -> list[int]:
            before = store.revision()
            store.put([(replace(people[0], id=number), half[0], b"")])
            return store.blocks_since(before).tolist()

        assert put(5000) == []  # the highest
        assert put(5001) == []
        assert put(3000) == [2]  # between others
        assert put(5000) == [4]  # in place of another
        before = store.revision()
        store.erase(Filters(people=(5001,)))
        assert store.blocks_since(before).tolist() == [4]
        assert put(5001) == [4]  # an id that was somebody else's
        assert put(7000) == []
        before = store.revision()
        store.erase_files("/photos")
        assert 0 in store.blocks_since(before).tolist()


def test_rows_are_what_filters_see(folder: Path) -> None:
    with open_store(folder) as store:
        rows = store.rows(after=2, last=7, limit=4)
        assert rows.ids.tolist() == [3, 4, 5, 6]
        people = store.people([3, 4, 5, 6])
        assert rows.scores.tolist() == [person.score for person in people]
        assert rows.times.tolist() == [101.0, 101.0, 202.0, 202.0]
        heights = [float(person.box[3] - person.box[1]) for person in people]
        np.testing.assert_allclose(rows.heights, heights, rtol=1e-5)
        np.testing.assert_array_equal(rows.vectors, store.vectors([3, 4, 5, 6]))
        phone = store.matching_files(Filters(cameras=("phone",), min_score=2.0))
        assert phone is not None
        assert np.isin(rows.files, phone).tolist() == [True, True, False, False]
        assert store.matching_files(Filters(min_score=0.3)) is None
        assert store.rows(after=9).vectors.shape == (0, DIM)
        assert np.isnan(store.rows().times).sum() == 0


def _read_all(folder: Path) -> None:
    with open_store(folder) as store:
        store.embeddings()
        store.people(range(1, 10))


@pytest.mark.parametrize("damage", ["cut", "overwritten", "no database"])
def test_a_damaged_store_says_so(folder: Path, damage: str) -> None:
    file = folder / DATABASE
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 3])
    elif damage == "overwritten":
        file.write_bytes(content[:4096] + b"\x55" * (len(content) - 4096))
    else:
        file.write_bytes(b"not a database at all" * 400)
    with pytest.raises(StoreError, match="damaged"):
        _read_all(folder)


def test_a_full_disk_loses_nothing(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        before = store.counts()["people"]
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        file = store.begin_file("/more", "a.mp4", STAMP)
        written: list[int] = []

        def add_many() -> None:
            for frame in range(10_000):
                store.add(file, [found(3, 1, frame=frame)])
                written.append(frame)

        with pytest.raises(StoreError, match="the disk is full; make room"):
            add_many()
    with open_store(folder) as store:
        assert store.counts()["people"] == before + 3 * len(written)
        assert store.damage() == ""


def test_one_writes_and_others_read(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        with (
            pytest.raises(StoreError, match=rf"process {os.getpid()} is writing to this store"),
            open_store(folder, write=True),
        ):
            pass
        with open_store(folder) as reader:
            assert reader.counts()["people"] == 9
            store.add(store.begin_file("/photos", "c.jpg", STAMP), [found(1, 50)], finished=True)
            assert reader.counts()["people"] == 10
            with pytest.raises(StoreError, match="cannot be written"):
                reader.finish_file(1)


def test_compacting_gives_room_back(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        file = store.begin_file("/long.mp4", "", STAMP)
        store.add(file, [found(3, 1, frame=n) for n in range(800)], finished=True)
        full = sum(path.stat().st_size for path in folder.iterdir())
        store.erase_files("/long.mp4")
        store.compact()
        assert sum(path.stat().st_size for path in folder.iterdir()) < full / 2
        assert store.counts()["people"] == 9


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_store import MODEL, STAMP, found, open_store
with open_store(sys.argv[1], model=MODEL, write=True) as store:
    file = store.begin_file("/long.mp4", "", STAMP)
    frame = len(store.frames(file))
    while True:
        store.add(file, [found(3, 1, frame=frame)])
        print(frame, flush=True)
        frame += 1
"""


def test_kill_loses_no_acknowledged_picture(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    generator = np.random.default_rng(0)
    said = 0
    for _ in range(5):
        command = [sys.executable, "-c", WRITER, str(folder), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = int(process.stdout.readline())
            time.sleep(generator.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines(keepends=True)
        said = max([said, *(int(line) for line in rest if line.endswith("\n"))])
        with open_store(folder, model=MODEL, write=True) as store:
            assert store.damage() == ""
            frames = store.frames(store.known_files("/long.mp4")[""].id)
            # Every frame that was acknowledged, none twice; at most one more was written.
            assert frames == set(range(len(frames)))
            assert len(frames) - 1 in (said, said + 1)
            assert store.counts()["people"] == 3 * len(frames)
    shutil.rmtree(folder)


def test_no_copy_stays_in_free_pages(tmp_path: Path) -> None:
    """Rows that SQLite moved from page to page before they were erased."""
    generator, left = np.random.default_rng(0), set()
    with open_store(tmp_path, model=MODEL, write=True) as store:
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


def test_nobody_gets_the_id_of_someone_who_was_erased(folder: Path) -> None:
    with open_store(folder, write=True) as store:
        store.erase(Filters(people=(9,)))
        store.add(store.begin_file("/photos", "c.jpg", STAMP), [found(1, 60)], finished=True)
        assert store.people_in(Path("/photos/c.jpg")) == [10]


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
            with pytest.raises(StoreError, match="expected above 0"):
                store.set_retention(days)
        store.set_retention(None)
        assert store.expire(1e12) == 0


def test_an_empty_database_is_no_store_yet(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()
    for write in (False, True):
        with (
            pytest.raises(StoreError, match="its database is empty; make a store"),
            open_store(tmp_path, write=write),
        ):
            pass
    with open_store(tmp_path, model=MODEL, write=True) as store:
        assert store.counts()["people"] == 0


def test_another_database_is_left_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("CREATE TABLE mine (name TEXT)")
    connection.close()
    before = (tmp_path / DATABASE).read_bytes()
    for write in (False, True):
        with (
            pytest.raises(StoreError, match="database of something else"),
            open_store(tmp_path, model=MODEL, write=write),
        ):
            pass
    assert (tmp_path / DATABASE).read_bytes() == before


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_are_said_or_harmless(folder: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    content = bytearray((folder / DATABASE).read_bytes())
    for place in generator.integers(0, len(content), 40):
        content[place] = generator.integers(0, 256)
    (folder / DATABASE).write_bytes(content)
    said = ""
    try:
        with open_store(folder, write=True) as store:
            store.people(store.embeddings()[0].tolist())
            store.unreadable()
            store.cameras()
            store.damage()
            store.erase(Filters(people=(1,)))
    except StoreError as error:  # anything else fails the test
        said = str(error)
    assert "\n" not in said
