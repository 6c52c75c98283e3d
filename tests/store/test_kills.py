"""Kill -9 at random moments of everything that writes to a store; see PERSONSEARCH_KILLS."""

import io
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from few_people import MODEL, found
from odd_stores import contents
from PIL import Image

from personsearch.engines import index_parts
from personsearch.engines.migrate import migrate
from personsearch.engines.sqlite import StoreEngine
from personsearch.engines.uri import open_engine
from personsearch.errors import StoreError
from personsearch.indexing.tracks import link_detections
from personsearch.store import DATABASE, FileStamp, FileState, Filters, Store, merge, open_store
from personsearch.store.audit import HEAD, RESTARTED, AuditLog
from personsearch.store.check import check_store
from personsearch.store.clock import DAY
from personsearch.store.exchange import export_store, import_store
from personsearch.store.merge import merge_stores

KILLS = int(os.environ.get("PERSONSEARCH_KILLS", "0"))
BESIDE, ALONE = KILLS or 10, KILLS or 1  # of two writers, and of each other operation
V0_1 = Path(__file__).parents[1] / "fixtures" / "v0_1" / "store"


def _picture(mark: str) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (8, 16), "red").save(written, "JPEG")
    return written.getvalue() + mark.encode() * 4


def _bytes(folder: Path) -> bytes:
    return b"".join(one.read_bytes() for one in folder.rglob("*") if one.is_file())


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


def _check(store: Store) -> None:
    """Finish an erasure, as `expire` does, and check the store."""
    if not store.scrubbed():
        store.compact()
    assert check_store(store) == []


def test_kills_lose_nothing_and_leave_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with open_store(folder, model=MODEL, write=True):
        pass
    fork = multiprocessing.get_context("fork")
    generator = np.random.default_rng(BESIDE)
    added: set[str] = set()
    for number in range(BESIDE):
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
            _check(store)
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
        everything = _bytes(folder)
        for mark in sorted(added):
            if mark.encode() not in there:
                name = "-".join(mark.split("-")[1:3])
                assert name in said["will"], f"{mark} is lost"
                assert mark.encode() not in everything
                added.remove(mark)


def _fill(folder: Path, name: str, files: range, changed: int = 1) -> Path:
    """Photos of two people and a video; each person has a mark, each photo a content."""
    with open_store(folder, model=MODEL, write=True) as store:
        for number in files:
            stamp, content = FileStamp(1, changed), b"%-32d" % (100 * number + changed)
            file = store.begin_file("/photos", f"{number}.jpg", stamp, None, content)
            marks = [_picture(f"mark-{name}-{number}-{k}!") for k in range(2)]
            people = found(2, 2 * number + changed, time=1e9 + number)
            store.add(file, [replace(people, thumbnails=marks)], finished=True)
        file = store.begin_file("/videos", name, FileStamp(1, 1))
        for frame in range(3):
            marks = [_picture(f"mark-{name}-video-{frame}!")]
            store.add(file, [replace(found(1, 200, frame=frame), thumbnails=marks)])
        store.finish_video(file, link_detections(store.frame_detections(file)))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Stores and an export with which the operations begin."""
    root = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_parts, "SMALL", 8)
        patch.setattr(index_parts, "PART", 24)
        patch.setattr(merge, "_TOGETHER", 12)
        _fill(root / "here", "here", range(20))
        _fill(root / "there", "there", range(10, 30), changed=2)
        for name, files in (("here", ["1.jpg", "12.jpg"]), ("there", ["15.jpg", "25.jpg"])):
            with open_store(root / name, write=True) as store:
                store.erase_files("/photos", files)
                store.erase(Filters(people=store.ids_after(0, 1)))
                store.set_retention(1e6)
        export_store(root / "there", root / "export")
        shutil.copytree(V0_1, root / "old")
        _fill(shutil.copytree(root / "here", root / "replaced"), "again", range(5, 10), changed=3)
        shutil.copytree(root / "here", root / "damaged")
        (root / "damaged" / HEAD).unlink()
        shutil.copytree(root / "here", root / "indexed")
        _prepare(root / "indexed")
        _fill(shutil.copytree(root / "indexed", root / "grown"), "more", range(40, 60))
        yield root


def _migrate(root: Path) -> None:
    with (
        open_engine(root / "there") as old,
        open_engine(root / "new", model=MODEL, create=True) as new,
    ):
        migrate(old, new, batch=8)


def _prepare(folder: Path) -> None:
    with StoreEngine(folder, exact=False) as engine:
        assert engine.prepare()


Work = Callable[[Path], object]


def _of(name: str, work: Callable[[Store], object]) -> tuple[list[str], Work]:
    def opened(root: Path) -> None:
        with open_store(root / name, write=True) as store:
            work(store)

    return [name], opened


OPERATIONS: dict[str, tuple[list[str], Work]] = {  # what they begin with, and what they do
    "merge": (["here", "there"], lambda at: merge_stores(at / "there", at / "here")),
    "merge with erasures": (
        ["here", "there"],
        lambda at: merge_stores(at / "there", at / "here", apply_erasures=True),
    ),
    "merge into a new store": (["there"], lambda at: merge_stores(at / "there", at / "new")),
    "import": (["here", "export"], lambda at: import_store(at / "export", at / "here")),
    "import with erasures": (
        ["here", "export"],
        lambda at: import_store(at / "export", at / "here", apply_erasures=True),
    ),
    "import into a new store": (["export"], lambda at: import_store(at / "export", at / "new")),
    "export": (["here"], lambda at: export_store(at / "here", at / "out")),
    "migrate": (["there"], _migrate),
    "index": (["here"], lambda at: _prepare(at / "here")),
    "index again": (["grown"], lambda at: _prepare(at / "grown")),
    "erase from the index": _of("indexed", lambda store: store.erase(Filters(people=(5, 6, 30)))),
    "migrate the schema": _of("old", lambda store: None),
    "compact": _of("replaced", lambda store: store.compact()),
    "expire": _of("here", lambda store: store.expire(1e9 + 5.5 + 1e6 * DAY)),
    "unerase": _of("here", lambda store: store.unerase("/photos")),
    "restart the log": (["damaged"], lambda at: AuditLog(at / "damaged").restart()),
}
FINISHED = "is there already; name|of source '/photos' was erased|is complete; there is no reason"


def _child(work: Callable[[], object], pipe: int, at: int) -> None:
    """Do some work, killed at one of its calls of C functions; tell their number."""
    calls = itertools.count(1)

    def count(_: object, event: str, __: object) -> None:
        if event == "c_call" and next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    faiss.omp_set_num_threads(1)  # whose threads are lost in a fork
    threading.setprofile(count)
    sys.setprofile(count)
    work()
    sys.setprofile(None)
    os.write(pipe, b"%d" % next(calls))


def _do(work: Callable[[], object], *, at: int = 0, seconds: float = 60.0) -> int:
    """Do some work in a process that is killed at a call, or after some time; return its calls."""
    reading, writing = os.pipe()
    fork = multiprocessing.get_context("fork")
    worker = fork.Process(target=_child, args=(work, writing, at))
    worker.start()
    os.close(writing)
    worker.join(seconds)
    worker.kill()
    worker.join()
    assert worker.exitcode in (0, -signal.SIGKILL)
    with os.fdopen(reading) as pipe:
        return int(pipe.read() or 0)


def _databases(root: Path) -> list[Path]:
    return sorted(path for path in root.glob(f"*/{DATABASE}") if path.stat().st_size)


def _secrets(database: Path) -> set[bytes]:
    """Embeddings, and ends of thumbnails."""
    with closing(sqlite3.connect(database)) as opened:
        query = "SELECT vector FROM embeddings UNION ALL SELECT substr(jpeg, -24) FROM thumbnails"
        try:
            return {one for (one,) in opened.execute(query)}
        except sqlite3.OperationalError:  # not yet a store
            return set()


def _result(root: Path) -> dict[str, Any]:
    """All that is kept, but for the times at which people were added."""
    kept: dict[str, Any] = {}
    for path in _databases(root):
        with open_store(path.parent) as store, StoreEngine(path.parent) as engine:
            rows = [
                [*row[:6], [one._replace(added=0.0) for one in row[6]], *row[7:]]
                for row in contents(path.parent)
            ]
            ids, vectors = store.embeddings()
            best = [one.ids[0] for one in engine.search(vectors.astype(np.float32), top=1)]
            kept[path.parent.name] = rows, store.retention(), store.erased_contents()
            assert np.array_equal(vectors[np.searchsorted(ids, best)], vectors)
            AuditLog(path.parent).append("tested", None, {})  # which removes lines of a crash
            assert AuditLog(path.parent).verify() == ""
    for path in root.glob("out*/*"):
        kept[f"{path.parent.name}/{path.name}"] = path.read_bytes()
    return kept


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_killed_can_be_repeated(base: Path, tmp_path: Path, name: str) -> None:
    begin, work = OPERATIONS[name]
    generator = np.random.default_rng([ALONE, list(OPERATIONS).index(name)])
    everyone = set().union(*map(_secrets, _databases(base)))

    def copied(to: str) -> Path:
        for one in begin:
            shutil.copytree(base / one, tmp_path / to / one)
        return tmp_path / to

    whole = copied("whole")
    before = time.monotonic()
    calls = _do(lambda: work(whole))
    seconds = time.monotonic() - before
    assert calls
    expected = _result(whole)
    for number in range(ALONE):
        root = copied(f"killed{number}")
        stayed = {
            one.parent.name: _secrets(one) & _secrets(whole / one.parent.name / DATABASE)
            for one in _databases(root)
        }
        if number % 2:
            _do(lambda root=root: work(root), seconds=generator.uniform(0, seconds))
        else:
            _do(lambda root=root: work(root), at=int(generator.integers(1, calls)))
        for path in _databases(root):
            there = _secrets(path)
            if there:
                with open_store(path.parent, write=True) as store:
                    _check(store)
            assert there >= stayed.get(path.parent.name, set())
            left = _bytes(path.parent)
            assert not [one for one in everyone - there if one in left]
        try:
            work(root)
        except StoreError as error:
            if not re.search(FINISHED, str(error)):
                raise
        for path in _databases(root):
            with open_store(path.parent, write=True) as store:
                _check(store)
        assert _result(root) == expected
        if "damaged" in begin:
            assert next(AuditLog(root / "damaged").entries()).action == RESTARTED
        shutil.rmtree(root)
