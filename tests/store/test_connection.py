"""One process writes and others read; a kill or a full disk loses nothing."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from few_people import MODEL, STAMP, found, vectors

from personsearch.errors import StoreError
from personsearch.store import (
    Filters,
    open_store,
)
from personsearch.store.locks import Turn


def test_several_write_and_others_read(folder: Path) -> None:
    with open_store(folder, write=True) as store, open_store(folder, write=True) as other:
        other.finish_file(1)
        with open_store(folder) as reader:
            assert reader.counts()["people"] == 9
            store.add(store.begin_file("/photos", "c.jpg", STAMP), [found(1, 50)], finished=True)
            assert reader.counts()["people"] == 10
            with pytest.raises(StoreError, match="cannot be written"):
                reader.finish_file(1)


def test_rows_that_were_not_read_are_no_error_after_closing(folder: Path) -> None:
    with open_store(folder) as store:
        rows = store.query("SELECT id FROM people")
        assert next(rows) == (1,)
    rows.close()  # type: ignore[attr-defined]


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


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from few_people import MODEL, STAMP, found
from personsearch.store import open_store
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
        command = [
            sys.executable,
            "-c",
            WRITER,
            str(folder),
            str(Path(__file__).parents[1] / "standins"),
        ]
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


def test_copies_are_made_in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(folder, write=True) as store:
        seen: list[str] = []
        run = Turn.run

        def watched(turn: Turn, connection: sqlite3.Connection, statement: str) -> None:
            (where,) = connection.execute("PRAGMA temp_store_directory").fetchone() or [""]
            seen.append(f"{statement} {where}")
            run(turn, connection, statement)

        monkeypatch.setattr(Turn, "run", watched)
        store.compact()
        assert seen[:2] == ["BEGIN IMMEDIATE ", f"VACUUM {folder}"]
        assert not store._one("PRAGMA temp_store_directory")


def test_the_copy_of_a_large_store_is_in_its_folder(folder: Path) -> None:
    """SQLite deletes the name of a temporary file at once, but this process has it open."""
    places: set[str] = set()

    def look() -> int:
        for one in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                places.add(str(one.readlink()))
        return 0

    with open_store(folder, write=True) as store:
        file = store.begin_file("/more", "a.mp4", STAMP)
        large = found(1, 1, frame=0)
        store.add(file, [replace(large, thumbnails=[os.urandom(8 << 20)])])
        store._connection.set_progress_handler(look, 10)
        store.compact()
    copies = [one for one in places if one.endswith("(deleted)") and "etilqs" in one]
    assert copies
    assert {Path(one).parent for one in copies} == {folder}


def test_too_little_room_is_said_before_anything_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = shutil._ntuple_diskusage(10**9, 10**9 - 4096, 4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    with open_store(folder, write=True) as store:
        before = store.revision()
        for erase in (store.compact, lambda: store.erase(Filters(people=[1]))):
            with pytest.raises(StoreError, match=r"0 MB left, .* needs 2 MB.*Nothing was changed"):
                erase()
        assert store.revision() == before
        assert store.scrubbed()
