"""The index finds whom the plain product finds, keeps up with the store, and forgets the erased."""

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from personsearch.engines import index as index_module
from personsearch.engines import index_lists, index_parts
from personsearch.engines.engine import PersonRecord, Ranking
from personsearch.engines.sqlite import StoreEngine, write_index
from personsearch.errors import StoreError
from personsearch.search.people_search import search_people
from personsearch.store import (
    DATABASE,
    EVERYONE,
    FileStamp,
    Filters,
    FoundPeople,
    ModelIdentity,
    Store,
    index_files,
    open_store,
)

DIM, COUNT = 32, 5000
MODEL = ModelIdentity("made", "d" * 64, DIM)
CAMERAS = ("door", "yard", "hall", "gate", "roof")
EMPTY: tuple[int, ...] = ()

Filled = Callable[..., Path]


def people_like(count: int, seed: int) -> np.ndarray:
    """Embeddings as tracks have them: twenty views each, near one another."""
    generator = np.random.default_rng(seed)
    who = generator.normal(size=(-(-count // 20), DIM))
    rows = np.repeat(who, 20, axis=0)[:count] + 0.4 * generator.normal(size=(count, DIM))
    unit: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def add(store: Store, name: str, vectors: np.ndarray, camera: str, begin: float = 0.0) -> None:
    """A video with ten people a frame, one frame a second; of the last no time is known."""
    generator = np.random.default_rng(len(name))
    frames = []
    for number, few in enumerate(np.array_split(vectors, max(1, len(vectors) // 10))):
        corners = generator.uniform(0, 50, (len(few), 2))
        sides = generator.uniform(10, 200, (len(few), 2))
        frames.append(
            FoundPeople(
                (640, 480),
                np.concatenate([corners, corners + sides], axis=1).astype(np.float32),
                generator.uniform(0.3, 1.0, len(few)).astype(np.float32),
                few,
                [b""] * len(few),
                frame=number,
                time=begin + number,
            )
        )
    frames[-1] = replace(frames[-1], time=None)
    store.add(store.begin_file("/videos", name, FileStamp(1, 1), camera), frames, finished=True)


def fill(folder: Path, model: ModelIdentity = MODEL, count: int = COUNT) -> np.ndarray:
    vectors = people_like(count, 0)
    vectors[77::1000] = vectors[7]  # as alike as can be
    with open_store(folder, model=model, write=True) as store:
        for k, few in enumerate(np.array_split(vectors, len(CAMERAS))):
            add(store, f"{k}.mp4", few, CAMERAS[k], begin=1000.0 * k)
    return vectors


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five thousand people are many here."""
    monkeypatch.setattr(index_parts, "PART", 2048)
    monkeypatch.setattr(index_parts, "SMALL", 512)
    for module in (index_parts, index_module):
        monkeypatch.setattr(module, "FEW", 64)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Make a store of so many people in a folder; each is filled once and copied."""

    @cache
    def made(weighted: bool, count: int) -> Path:
        folder = tmp_path_factory.mktemp("filled")
        fill(folder, replace(MODEL, weighted=weighted), count)
        return folder

    def copy(folder: Path, weighted: bool = False, count: int = COUNT) -> Path:
        return shutil.copytree(made(weighted, count), folder, dirs_exist_ok=True)

    return copy


@pytest.fixture
def folder(tmp_path: Path, filled: Filled) -> Path:
    return filled(tmp_path / "store")


@pytest.fixture
def engine(folder: Path) -> Iterator[StoreEngine]:
    with StoreEngine(folder) as opened:
        yield opened


def plainly(
    folder: Path,
    queries: np.ndarray,
    top: int,
    filters: Filters = EVERYONE,
    without: tuple[int, ...] = EMPTY,
) -> list[Ranking]:
    """The same by one product of everyone whom SQL returns."""
    with open_store(folder) as store:
        ids, vectors = store.embeddings(filters)
        left = ~np.isin(ids, without)
        ids, vectors = ids[left], vectors[left]
        people = store.people(ids.tolist())
        weights = np.array([one.score if store.model.weighted else 1.0 for one in people])
    found = []
    for query in queries:
        cosines = (vectors.astype(np.float64) @ query).astype(np.float32).round(6)
        ranked = cosines * weights.astype(np.float32)
        order = np.lexsort((ids, -ranked))[:top]
        found.append(Ranking(ids[order], cosines[order], ranked[order]))
    return found


def assert_same(found: list[Ranking], expected: list[Ranking]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.rank_scores, other.rank_scores, atol=2e-6)
        np.testing.assert_allclose(one.similarities, other.similarities, atol=2e-6)
        assert one.ids.tolist() == other.ids.tolist()


def queries(count: int = 12) -> np.ndarray:
    """Near some of the people, and one of them exactly."""
    vectors = people_like(COUNT, 0)[7 :: COUNT // count][:count]
    noise = 0.02 * np.random.default_rng(9).normal(size=vectors.shape)
    near = vectors + noise * (np.arange(count) > 0)[:, None]
    unit: np.ndarray = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    return unit


def files(folder: Path, suffix: str = ".rows") -> set[str]:
    place = folder / "index"
    return (
        {path.name for path in place.iterdir() if path.suffix == suffix}
        if place.exists()
        else set()
    )


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


FILTERS = [
    Filters(),
    Filters(cameras=("yard",)),
    Filters(cameras=("yard", "roof"), since=1020.0, until=4050.0, min_score=0.5),
    Filters(min_height=150.0),
    Filters(names=("3.mp4", "4.mp4"), sources=("/videos",)),
    Filters(people=(3, 9, 2500, 4999, 99_999)),
    Filters(since=0.0),
    Filters(cameras=("nowhere",)),
    Filters(people=()),
    Filters(cameras=[], min_score=0.2),
]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("few", [0, 64, 1 << 20])
def test_exact_search_equals_the_plain_product(
    tmp_path: Path,
    filled: Filled,
    filters: Filters,
    weighted: bool,
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (index_parts, index_module):
        monkeypatch.setattr(module, "FEW", few)
    filled(tmp_path, weighted, 2600)
    asked = queries(4)
    with StoreEngine(tmp_path) as engine:
        for top, without in ((1, EMPTY), (10, (7, 8, 2599)), (300, EMPTY), (3000, (5,))):
            found = engine.search(asked, top=top, filters=filters, without=without)
            assert_same(found, plainly(tmp_path, asked, top, filters, without))
    assert len(files(tmp_path)) == 2


def test_of_equals_the_lower_id_is_first_however_many_they_are(tmp_path: Path) -> None:
    vectors = people_like(1500, 0)
    vectors[100:1400] = vectors[100]
    with open_store(tmp_path, model=MODEL, write=True) as store:
        add(store, "a.mp4", vectors, "door")
    with StoreEngine(tmp_path) as engine:
        found = engine.search(vectors[[100, 3]], top=5)
        assert found[0].ids.tolist() == [101, 102, 103, 104, 105]
        assert_same(found, plainly(tmp_path, vectors[[100, 3]], 5))
        left = engine.search(vectors[[100]], top=3, without=[101, 103])
        assert left[0].ids.tolist() == [102, 104, 105]


def test_nothing_is_asked_or_there(engine: StoreEngine, tmp_path: Path) -> None:
    assert engine.search(np.zeros((0, DIM), np.float32)) == []
    assert engine.search(queries(1), top=0)[0].ids.tolist() == []
    with open_store(tmp_path / "empty", model=MODEL, write=True):
        pass
    with StoreEngine(tmp_path / "empty") as empty:
        assert empty.search(queries(2))[1].ids.tolist() == []
        empty.upsert(next(iter(engine.iterate(batch=3))))
        assert len(empty.search(queries(2))[1].ids) == 3


@pytest.mark.parametrize("weighted", [False, True])
def test_approximate_search_finds_nearly_all(
    tmp_path: Path, filled: Filled, weighted: bool
) -> None:
    filled(tmp_path, weighted)
    asked = queries(200)
    with StoreEngine(tmp_path, exact=False) as engine:
        found = engine.search(asked, top=10)
        expected = plainly(tmp_path, asked, 10)
        pairs = zip(found, expected, strict=True)
        hits = [len(np.intersect1d(one.ids, other.ids)) for one, other in pairs]
        assert np.mean(hits) >= 9.7
        # Whoever is found is scored as exactly as ever.
        for one, query in zip(found, asked, strict=True):
            there = engine.vectors(one.ids.tolist()).astype(np.float64)
            np.testing.assert_allclose(one.similarities, there @ query, atol=2e-6)
            assert (np.diff(one.rank_scores) <= 0).all()
        assert len(files(tmp_path, ".lists")) == len(files(tmp_path)) == 3
        # Where few are meant nobody is missed.
        for filters in FILTERS[1:6]:
            found = engine.search(asked, top=10, filters=filters)
            assert_same(found, plainly(tmp_path, asked, 10, filters))
        # Where most are, only they are found.
        chosen = Filters(min_score=0.4)
        meant = engine.count(chosen)
        assert COUNT / 2 < meant < COUNT
        found = engine.search(asked, top=10, filters=chosen, without=[8])
        for one in found:
            assert 8 not in one.ids
            assert all(person.score >= 0.4 for person in engine.get(one.ids.tolist()))


def test_approximate_only_when_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    look = index_module._search_lists
    monkeypatch.setattr(index_module, "_search_lists", lambda *a: looked.append(1) or look(*a))
    asked = queries(2)
    with StoreEngine(folder) as engine:
        assert engine.prepare()
        engine.search(asked)
        assert not looked  # five thousand are not a million
        monkeypatch.setattr(index_module, "MANY", COUNT)
        engine.search(asked)
        assert looked
    looked.clear()
    with StoreEngine(folder, exact=True) as engine:
        engine.search(asked)
    assert not looked


def test_centroids_are_of_several_people(folder: Path) -> None:
    with StoreEngine(folder, exact=False) as engine:
        engine.search(queries(1))
        lists = engine._index.current().inverted_lists
        assert lists is not None
        centroids = index_lists.centroids_of(lists.index)
        sizes = lists.index.invlists
        assert len(centroids) > 4
        assert sum(sizes.list_size(k) for k in range(len(centroids))) == 2048
    with open_store(folder) as store:
        _, vectors = store.embeddings()
    alike = vectors.astype(np.float32) @ centroids.T
    members = np.bincount(alike.argmax(axis=1), minlength=len(centroids))
    assert members.min() >= 4


def test_files_are_made_once_and_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = queries()
    with StoreEngine(folder) as engine:
        first = engine.search(asked)
    made = {path: path.stat().st_mtime_ns for path in (folder / "index").glob("*.rows")}
    assert len(made) == 3
    read: list[int] = []
    rows = Store.rows

    def counted(self: Store, **given: int) -> object:
        found = rows(self, **given)  # type: ignore[arg-type]
        read.append(len(found.ids))
        return found

    monkeypatch.setattr(Store, "rows", counted)
    with StoreEngine(folder) as engine:
        assert_same(engine.search(asked), first)
    assert sum(read) == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_store_that_grows_is_appended_to(folder: Path) -> None:
    asked = queries()
    with StoreEngine(folder) as engine:
        engine.search(asked)
        before = files(folder)
        full = {name for name in before if name != max(before, key=lambda n: int(n.split("_")[0]))}
        for number, count in enumerate((10, 300, 600)):
            with open_store(folder, write=True) as store:
                add(store, f"new{number}.mp4", people_like(count, 50 + number), "new")
            assert_same(engine.search(asked), plainly(folder, asked, 20))
            new = Filters(cameras=("new",))
            assert_same(engine.search(asked, filters=new), plainly(folder, asked, 20, new))
    with StoreEngine(folder) as engine:
        assert_same(engine.search(asked), plainly(folder, asked, 20))
    # What was full stays as it was.
    assert full <= files(folder)
    assert len(full) == 2
    with open_store(folder) as store:
        last = max(int(name.split("_")[1].split(".")[0]) for name in files(folder))
        assert store.counts()["people"] - last < 512


def test_a_small_store_needs_no_files(tmp_path: Path) -> None:
    fill(tmp_path, count=500)
    with StoreEngine(tmp_path, exact=False) as engine:
        assert_same(engine.search(queries(3)), plainly(tmp_path, queries(3), 20))
        assert not engine.prepare()
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("damage", ["cut", "byte", "empty", "other", "lists"])
def test_a_damaged_file_is_made_anew(folder: Path, damage: str) -> None:
    asked = queries()
    with StoreEngine(folder, exact=False) as engine:
        engine.search(asked)
    kind = "*.lists" if damage == "lists" else "*.rows"
    path = sorted((folder / "index").glob(kind))[0]
    content = path.read_bytes()
    broken = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "other": b"something else entirely" * 100,
    }.get(damage)
    if broken is None:
        middle = len(content) // 2
        broken = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(broken)
    assert index_files.read(path) is None
    with StoreEngine(folder, exact=damage != "lists") as engine:
        found = engine.search(asked)
        if damage == "lists":
            assert engine.prepare()
    assert_same(found[:1], plainly(folder, asked, 20)[:1])
    assert index_files.read(path) is not None


def test_files_of_another_store_or_time_are_not_trusted(folder: Path, tmp_path: Path) -> None:
    asked = queries()
    with StoreEngine(folder) as engine:
        engine.search(asked)
        old = (folder / DATABASE).read_bytes()
    # The database is put back as it was, the files are of a later time.
    with open_store(folder, write=True) as store:
        store.erase_files("/videos", ["4.mp4"])
        add(store, "other.mp4", people_like(1000, 70), "other")
    with StoreEngine(folder) as engine:
        engine.search(asked)
    (folder / DATABASE).write_bytes(old)
    with open_store(folder, write=True) as store:
        for number in range(9):  # as many changes as there were
            store.begin_file("/more", str(number), FileStamp(1, 1))
    with StoreEngine(folder) as engine:
        assert_same(engine.search(asked), plainly(folder, asked, 20))
    # Another model's.
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("UPDATE model SET fingerprint = 'e'")
    connection.close()
    with open_store(folder) as store:
        span = index_files.spans(folder)[0]
        assert index_parts._mapped(folder, store, span) is None


def test_a_restored_backup_misses_nobody(folder: Path) -> None:
    """Only the database is put back; two commits later its revision is that of the index files."""
    backup = (folder / DATABASE).read_bytes()
    lost = people_like(600, 70)
    with open_store(folder, write=True) as store:
        add(store, "lost.mp4", lost, "other")
    write_index(folder)
    kept = lost.copy()
    strangers = [3, 5, 598]
    kept[strangers] = people_like(60, 71)[::20]
    (folder / DATABASE).write_bytes(backup)
    with open_store(folder, write=True) as store:
        add(store, "kept.mp4", kept, "other")
    with StoreEngine(folder) as engine:
        found = engine.search(kept[strangers], top=1)
        assert [one.ids.tolist() for one in found] == [[COUNT + 1 + row] for row in strangers]
        assert_same(engine.search(queries()), plainly(folder, queries(), 20))


def test_files_of_a_copied_folder_are_not_taken(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for number, one in enumerate((folder, copy)):
        with open_store(one, write=True) as store:
            add(store, "more.mp4", people_like(600, 80 + number), "other")
        write_index(one)
    shutil.rmtree(folder / "index")
    shutil.copytree(copy / "index", folder / "index")
    asked = people_like(600, 80)[::50]
    with StoreEngine(folder) as engine:
        assert_same(engine.search(asked), plainly(folder, asked, 20))


@pytest.mark.parametrize("now", [0.0, 4e9])
def test_a_clock_that_jumps_changes_nothing(
    folder: Path, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_index(folder)
    before = files(folder)
    monkeypatch.setattr("time.time", lambda: now)
    with StoreEngine(folder) as engine:
        with open_store(folder, write=True) as store:
            add(store, "more.mp4", people_like(60, 80), "other")
        asked = people_like(60, 80)[::20]
        assert_same(engine.search(asked), plainly(folder, asked, 20))
    assert before <= files(folder)


def test_memory_of_another_time_line_is_read_again(folder: Path) -> None:
    with StoreEngine(folder) as engine:
        engine.search(queries(2))
        with sqlite3.connect(folder / DATABASE) as connection:
            connection.execute("DROP TRIGGER embedding_deleted")
            connection.execute("DELETE FROM people WHERE id <= 100")
            connection.execute("DELETE FROM embeddings WHERE person <= 100")
            connection.execute("UPDATE commits SET token = randomblob(16)")
        connection.close()
        assert_same(engine.search(queries(2)), plainly(folder, queries(2), 20))


def test_tokens_that_files_note_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personsearch.store.connection._TOKENS", 8)
    write_index(folder)
    noted = index_files.noted_revisions(folder)
    before = files(folder)
    with open_store(folder, write=True) as store:
        for number in range(40):
            store.begin_file("/more", str(number), FileStamp(1, 1))
        assert all(store.token(one) for one in noted)
        (tokens,) = next(store.query("SELECT count(*) FROM commits"))
        assert tokens <= 16 + len(set(noted))
    with StoreEngine(folder) as engine:
        assert engine.count() == COUNT
        assert all(part.span for part in engine._index.current().parts[:2])
    assert files(folder) == before


def test_one_state_for_several_reads(folder: Path) -> None:
    with StoreEngine(folder) as engine:
        with engine.snapshot():
            (found,) = engine.search(queries(1))
            with open_store(folder, write=True) as store:
                ids = json.dumps(found.ids.tolist())
                with store.writing(erasing=True):
                    store.execute(
                        "DELETE FROM people WHERE id IN (SELECT value FROM json_each(?))", ids
                    )
            assert len(engine.get(found.ids.tolist())) == 20
            assert engine.search(queries(1))[0].ids.tolist() == found.ids.tolist()
            assert engine.count() == COUNT
            assert sum(engine.cameras().values()) == COUNT
            with engine.snapshot():  # one inside of another is the same
                assert len(engine.vectors(found.ids.tolist())) == 20
        assert engine.count() == COUNT - 20
        assert_same(engine.search(queries(1)), plainly(folder, queries(1), 20))


def test_whoever_is_found_can_be_read_while_others_erase(folder: Path) -> None:
    asked = queries(1)[0]
    stop = threading.Event()
    with StoreEngine(folder) as engine:

        def search() -> int:
            done = 0
            while not stop.is_set():
                with engine.snapshot():
                    done += len(search_people(engine, asked, rerank="expansion"))
            return done

        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(search) for _ in range(2)]
            try:
                with open_store(folder, write=True) as store:
                    for step in range(25):
                        (found,) = engine.search(asked[None], top=3)
                        store.erase(Filters(people=found.ids[:2].tolist()))
                        add(store, f"step{step}.mp4", people_like(20, step), "new")
            finally:
                stop.set()
            assert all(one.result() for one in running)


def erased_by(store: Store, how: str, person: int) -> None:
    if how == "person":
        store.erase(Filters(people=(person,)))
    elif how == "time":
        store.erase(Filters(since=1000.0, until=1100.0))
    elif how == "file":
        store.erase_files("/videos", ["1.mp4"])
    elif how == "put":
        (there,) = store.people([person])
        store.put([(there, people_like(1, 99)[0].astype(np.float16), b"")])
    else:
        store.begin_file("/videos", "1.mp4", FileStamp(2, 2))


@pytest.mark.parametrize("how", ["person", "time", "file", "put", "changed"])
@pytest.mark.parametrize("weighted", [False, True])
def test_whoever_is_erased_is_in_no_file(
    tmp_path: Path, filled: Filled, how: str, weighted: bool
) -> None:
    filled(tmp_path, weighted)
    person, asked = 1234, queries()
    with StoreEngine(tmp_path) as engine:
        assert engine.prepare()
        engine.search(asked)
        secret = engine.vectors([person])
        stays = engine.vectors([4000])
        score = np.float32(engine.get([person])[0].score)
        secrets = [secret.tobytes(), (secret * score).astype(np.float16).tobytes()]
        lists = engine._index.current().inverted_lists
        assert lists is not None
        centroid = index_lists.centroids_of(lists.index)[0].tobytes()
        assert centroid in everything(tmp_path)
        index = b"".join(path.read_bytes() for path in (tmp_path / "index").iterdir())
        assert secrets[weighted] in index
        with open_store(tmp_path, write=True) as store:
            erased_by(store, how, person)
        left = everything(tmp_path)
        assert not any(one in left for one in secrets)
        assert stays.tobytes() in left
        # Centroids are learned again once people are erased; parts without them stay.
        assert (centroid in left) == (how == "put")
        assert len(files(tmp_path)) == 2
        assert_same(engine.search(asked), plainly(tmp_path, asked, 20))
        found = engine.search(secret.astype(np.float32), top=5)[0]
        assert person not in found.ids
    # The files come back without them.
    with StoreEngine(tmp_path) as engine:
        assert_same(engine.search(asked), plainly(tmp_path, asked, 20))
    assert not any(one in everything(tmp_path) for one in secrets)


def test_no_file_is_made_from_who_is_about_to_be_erased(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone reads people to write them; meanwhile one of them is erased."""
    reading, erasing = threading.Event(), threading.Event()
    rows = Store.rows

    def slow(self: Store, **given: int) -> object:
        found = rows(self, **given)  # type: ignore[arg-type]
        reading.set()
        erasing.wait(0.2)  # the eraser has to wait for us, so this runs out
        return found

    with StoreEngine(folder) as engine:
        secret = engine.vectors([100]).tobytes()
    monkeypatch.setattr(Store, "rows", slow)

    def search() -> None:
        with StoreEngine(folder) as engine:
            engine.search(queries(1))

    thread = threading.Thread(target=search)
    thread.start()
    assert reading.wait(30)
    with open_store(folder, write=True) as store:
        store.erase(Filters(people=(100,)))
        erasing.set()
    thread.join()
    assert secret not in everything(folder)


def test_an_erasure_that_cannot_reach_the_files_is_not_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StoreEngine(folder) as engine:
        engine.search(queries(1))
    monkeypatch.setattr(index_files, "PATIENCE", 0.05)
    with open_store(folder, write=True) as store:
        with index_files.locked(folder) as mine:
            assert mine
            with pytest.raises(StoreError, match="is writing them; end it"):
                store.erase(Filters(people=(100,)))
        assert store.count() == COUNT
        assert store.erase(Filters(people=(100,))) == 1


def test_who_may_not_write_searches_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    asked = queries()
    with StoreEngine(folder, exact=False) as engine:
        assert_same(engine.search(asked), plainly(folder, asked, 20))
        assert not engine.prepare()
        with open_store(folder, write=True) as store:
            store.erase(Filters(people=(100, 3000)))
            add(store, "new.mp4", people_like(300, 70), "new")
        assert_same(engine.search(asked), plainly(folder, asked, 20))
    assert not (folder / "index").exists()


def test_a_disk_that_is_full_ends_no_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with StoreEngine(folder) as engine:
        assert_same(engine.search(queries()), plainly(folder, queries(), 20))
    assert files(folder) == set()
    assert {path.name for path in (folder / "index").iterdir()} == {"lock"}


def test_any_number_of_changes(folder: Path) -> None:
    """Random writing, and after each step the same as the plain product."""
    generator = np.random.default_rng(5)
    asked = queries(4)
    with StoreEngine(folder) as engine:
        records = [one for batch in engine.iterate() for one in batch]
        for step in range(25):
            kind = generator.integers(4)
            some = generator.choice(len(records), 3, replace=False)
            with open_store(folder, write=True) as store:
                if kind == 0:
                    store.erase(Filters(people=[records[k].person.id for k in some]))
                elif kind == 1:
                    add(store, f"step{step}.mp4", people_like(40, step), "new")
            if kind == 2:  # back again under their ids, or in place of those who are there
                engine.upsert([records[k] for k in some])
            elif kind == 3:
                last = int(engine._index.current().last)
                engine.delete([last])
                other = people_like(1, step)[0].astype(np.float16)
                again = replace(records[0].person, id=last)
                engine.upsert([PersonRecord(again, other, b"")])
            if step % 5 == 4:
                with suppress(AttributeError):
                    engine._index._loading.join()  # type: ignore[union-attr]
            assert_same(engine.search(asked), plainly(folder, asked, 20))


def test_threads_search_while_the_store_changes(folder: Path) -> None:
    asked, failed = queries(2), []
    stop = threading.Event()
    with StoreEngine(folder) as engine:
        engine.search(asked)

        def search() -> int:
            done = 0
            while not stop.is_set():
                for ranking in engine.search(asked, filters=Filters(cameras=("new", "yard"))):
                    if len(ranking.ids) != 20 or (np.diff(ranking.rank_scores) > 0).any():
                        failed.append(ranking)
                done += 1
            return done

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(search) for _ in range(4)]
            for step in range(12):
                with open_store(folder, write=True) as store:
                    add(store, f"step{step}.mp4", people_like(60, step), "new")
                    store.erase(Filters(people=(step + 1, 2000 + step)))
            stop.set()
            assert all(one.result() for one in running)
        assert not failed
        assert_same(engine.search(asked), plainly(folder, asked, 20))


def test_left_over_files_go(folder: Path) -> None:
    with StoreEngine(folder) as engine:
        engine.search(queries(1))
    place = folder / "index"
    (place / "unfinished").write_bytes(b"half of a file")
    inside = place / "10_90.rows"
    inside.write_bytes(sorted(place.glob("*.rows"))[0].read_bytes())
    with StoreEngine(folder) as engine:
        assert_same(engine.search(queries()), plainly(folder, queries(), 20))
    assert not inside.exists()
    with open_store(folder, write=True) as store:
        store.erase(Filters(people=(4990,)))
    assert not (place / "unfinished").exists()


def test_the_files_of_a_large_store_are_written_ahead(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "index", ignore_errors=True)
    write_index(folder)
    assert list((folder / "index").glob("*.rows"))
    with open_store(tmp_path / "small", model=MODEL, write=True):
        pass
    write_index(tmp_path / "small")
    assert not (tmp_path / "small" / "index").exists()


@pytest.mark.parametrize("removed", [True, False])
def test_a_database_that_was_replaced_while_it_was_open_is_opened_again(
    tmp_path: Path, removed: bool
) -> None:
    folder = tmp_path / "store"
    vectors = fill(folder, count=60)
    shutil.copytree(folder, tmp_path / "backup")
    with StoreEngine(folder) as engine, open_store(folder, write=True) as writer:
        add(writer, "new.mp4", vectors[:1], "gate")
        file = writer.begin_file("/videos", "more.mp4", FileStamp(1, 1))
        assert engine.search(vectors[:1], top=2)[0].ids.tolist() == [1, 61]
        with engine.snapshot():
            if removed:
                (folder / DATABASE).unlink()
            else:
                shutil.rmtree(folder)
                shutil.copytree(tmp_path / "backup", folder)
            assert engine.count(Filters(people=[61])) == 1  # one request sees one state
        with pytest.raises(StoreError, match="was replaced or removed while it was open"):
            writer.add(file, [])
        if removed:
            with pytest.raises(StoreError, match="there is no store here"):
                engine.search(vectors[:1])
        else:
            assert engine.search(vectors[:1], top=1)[0].ids.tolist() == [1]
            assert (engine.count(), engine.sources()) == (60, {"/videos": 60})
            assert engine.erase(Filters(people=[1])) == 1
            assert 1 not in engine.search(vectors[:1], top=60)[0].ids
