"""Kill -9 at random moments of writers that work beside each other; see PERSONSEARCH_KILLS."""

import io
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from few_people import MODEL, found
from PIL import Image

from personsearch.indexing.tracks import link_detections
from personsearch.store import FileStamp, FileState, Filters, Store, open_store
from personsearch.store.check import check_store

KILLS = int(os.environ.get("PERSONSEARCH_KILLS", "24"))


def _picture(mark: str) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (8, 16), "red").save(written, "JPEG")
    return written.getvalue() + mark.encode() * 4


Tell = Callable[[str, str], None]


def _write(store: Store, tell: Tell, round: int) -> None:
    """Videos of three frames, each with a mark of its own; some come in another version at once."""
    generator = np.random.default_rng(round)
    for number in range(10_000):
        name = f"{round}-{number}"
        for version in range(1 + int(generator.integers(2))):
            if version:
                tell("will", name)
            file = store.begin_file("/videos", name, FileStamp(1, version))
            for frame in range(3):
                mark = f"mark-{name}-{frame}-{version}!"
                one = found(1, int(generator.integers(256)), frame=frame, time=1e9)
                if store.add(file, [replace(one, thumbnails=[_picture(mark)])]):
                    tell("added", mark)
            store.finish_video(file, link_detections(store.frame_detections(file)))


def _erase(store: Store, tell: Tell, round: int) -> None:
    """People, files, and what is overdue; each is announced before and reported after."""
    generator = np.random.default_rng(round)
    while True:
        known = store.known_files("/videos")
        # What was erased is not forgotten here, or the other writer could begin it again.
        names = [name for name, one in known.items() if one.state != FileState.ERASED] or [""]
        name = names[int(generator.integers(len(names)))]
        kind = int(generator.integers(6))
        if kind < 2 and name:
            tell("will", name)
            (store.erase_files if kind else store.forget_files)("/videos", [name])
            if kind:
                tell("gone", name)
        elif kind == 2:
            ids = store.ids_after(0, 100)[-3:]
            for one in store.find_people(ids).values():  # the other writer may replace some
                tell("will", one.name)
            store.erase(Filters(people=ids))
            for id in ids:
                tell("erased", str(id))
        elif kind == 3:
            store.expire(0.0)
        elif kind == 4:
            store.set_retention(1e6)
        else:
            store.compact()


def _run(work: Callable[[Store, Tell, int], None], folder: Path, pipe: int, round: int) -> None:
    with open_store(folder, model=MODEL, write=True) as store:
        work(store, lambda what, which: os.write(pipe, f"{what} {which} \n".encode()), round)


def test_kills_lose_nothing_and_leave_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with open_store(folder, model=MODEL, write=True):
        pass
    fork = multiprocessing.get_context("fork")
    generator = np.random.default_rng(KILLS)
    added: set[str] = set()
    for number in range(KILLS):
        reading, writing = os.pipe()
        workers = [
            fork.Process(target=_run, args=(work, folder, writing, number))
            for work in (_write, _erase)
        ]
        for worker in workers:
            worker.start()
        os.close(writing)
        time.sleep(generator.uniform(0.05, 0.5))
        for worker in generator.permutation(workers):
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            assert worker.exitcode == -signal.SIGKILL
        said: dict[str, set[str]] = {"will": set(), "added": set(), "gone": set(), "erased": set()}
        with os.fdopen(reading) as pipe:
            for line in pipe:
                what, which, _ = line.split(" ")
                said[what].add(which)
        added |= said["added"]
        with open_store(folder, write=True) as store:
            if not store.scrubbed():
                store.compact()
            assert check_store(store) == []
            ids = store.ids_after(0, 10**9)
            assert said["erased"].isdisjoint(map(str, ids))
            there = b"".join(store.thumbnails(ids))
            known = store.known_files("/videos")
            back = [
                known[one]
                for one in said["gone"] & known.keys()
                if known[one].state != FileState.ERASED
            ]
            assert back == []
        everything = b"".join(one.read_bytes() for one in folder.rglob("*") if one.is_file())
        for mark in sorted(added):
            if mark.encode() not in there:
                name = "-".join(mark.split("-")[1:3])
                assert name in said["will"], f"{mark} is lost"
                assert mark.encode() not in everything
                added.remove(mark)
