"""Writers take turns, one run indexes at a time, and a killed process holds no lock."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from few_people import MODEL, STAMP, found

from personsearch.errors import StoreError
from personsearch.store import Filters, open_store
from personsearch.store.index_files import locked
from personsearch.store.locks import Turn, indexing_lock

STANDINS = str(Path(__file__).parents[1] / "standins")

HOLDER = """
import sys, time
from pathlib import Path
from personsearch.store.locks import Turn, indexing_lock
from personsearch.store.index_files import locked
folder = Path(sys.argv[1])
with indexing_lock(folder), locked(folder) as held, Turn(folder) as turn:
    print(held, flush=True)
    time.sleep(60)
"""

INDEXER = """
import sys
sys.path.insert(0, sys.argv[2])
from few_people import MODEL, STAMP, found
from personsearch.indexing.writers import open_writer
with open_writer(sys.argv[1], MODEL) as writer:
    store = writer.store
    file = store.begin_file("/long.mp4", "", STAMP)
    frame = 0
    while store.add(file, [found(1, 1, frame=frame)]):
        print(frame, flush=True)
        frame += 1
print("erased", flush=True)
"""


@contextmanager
def running(script: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has written its first line."""
    command = [sys.executable, "-c", script, str(folder), STANDINS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_process_holds_no_lock(folder: Path) -> None:
    with running(HOLDER, folder) as process:
        for _ in range(2):  # a process that fails to get it leaves the holder's number
            with (
                pytest.raises(StoreError, match=rf"process {process.pid} is writing"),
                indexing_lock(folder),
            ):
                pass
        with locked(folder) as held:
            assert not held
        with pytest.raises(StoreError, match="is writing"), Turn(folder, 0.0):
            pass
    with indexing_lock(folder), locked(folder) as held, Turn(folder, 0.0):
        assert held


@pytest.mark.parametrize("name", ["writer.lock", "turn.lock"])
def test_a_folder_that_cannot_be_locked(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with (
        pytest.raises(StoreError, match=rf"{name}: cannot be locked"),
        indexing_lock(folder),
        Turn(folder),
    ):
        pass


def test_the_error_names_the_process_that_writes(folder: Path) -> None:
    with open_store(folder, write=True) as store, open_store(folder, write=True) as other:
        other.patience = 0.1
        with (
            store.writing(),
            pytest.raises(StoreError, match=rf"process {os.getpid()} is writing to this store"),
        ):
            other.set_retention(3)
        other.set_retention(3)
        assert store.retention() == 3


def test_who_waits_is_next(folder: Path) -> None:
    """One transaction is running; of two that come later, the first holds the turn."""
    order: list[str] = []

    def write(name: str) -> None:
        with open_store(folder, write=True) as store, store.writing():
            order.append(name)

    with open_store(folder, write=True) as store:
        with store.writing():
            thread = threading.Thread(target=write, args=["erasure"])
            thread.start()
            while True:
                time.sleep(0.01)
                try:
                    with Turn(folder, 0.0):
                        pass
                except StoreError:
                    break
        with store.writing():  # at once, as an indexer does
            order.append("indexer")
        thread.join()
    assert order == ["erasure", "indexer"]


def test_erasures_go_through_while_an_indexer_commits_without_a_pause(folder: Path) -> None:
    with running(INDEXER, folder) as process, open_store(folder, write=True) as store:
        for number in range(1, 6):
            before = store.counts()["pictures"]
            assert store.erase(Filters(people=[number])) == 1
            assert store.count(Filters(people=[number])) == 0
            assert store.scrubbed()
            while store.counts()["pictures"] == before:  # it goes on
                assert process.poll() is None
                time.sleep(0.001)
        assert store.erase_files("/long.mp4") > 0
        assert process.stdout is not None
        assert process.stdout.read().endswith("erased\n")
        assert store.known_files("/long.mp4")[""].state == "erased"
        assert store.frames(store.known_files("/long.mp4")[""].id) == set()


def test_a_second_indexer_is_refused_and_others_are_not(folder: Path) -> None:
    from personsearch.indexing.writers import open_writer

    with running(INDEXER, folder) as process:
        with (
            pytest.raises(StoreError, match=rf"process {process.pid} is writing"),
            open_writer(folder, MODEL),
        ):
            pass
        with open_store(folder, write=True) as store:
            file = store.begin_file("api:door", "a.jpg", STAMP)
            assert store.add(file, [found(1, 3)], finished=True)


def test_two_processes_make_one_store(tmp_path: Path) -> None:
    made: list[float] = []

    def create() -> None:
        with open_store(tmp_path / "store", model=MODEL, write=True) as store:
            made.append(store.created_at())

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


def test_an_older_store_is_not_migrated_under_an_old_indexer(folder: Path) -> None:
    with sqlite3.connect(folder / "people.sqlite") as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with (
        indexing_lock(folder),
        pytest.raises(StoreError, match=rf"process {os.getpid()} is writing"),
        open_store(folder, write=True),
    ):
        pass
