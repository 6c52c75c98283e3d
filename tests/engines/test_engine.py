"""What every engine keeps: the same answers over a store and over Milvus, from several threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personsearch.engines.engine import Engine, PersonRecord
from personsearch.engines.milvus import MilvusEngine
from personsearch.engines.uri import open_engine
from personsearch.errors import StoreError
from personsearch.store import (
    Filters,
    ModelIdentity,
    StoredPerson,
    TrackSpan,
    open_store,
)
from personsearch.store.audit import LOG

DIM, COUNT = 16, 200
MODEL = ModelIdentity("made", "d" * 64, DIM)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


VECTORS = unit(np.random.default_rng(0).normal(size=(COUNT, DIM))).astype(np.float16)
QUERIES = unit(np.random.default_rng(1).normal(size=(3, DIM)))


def record(number: int) -> PersonRecord:
    """Person `number` of 1, 2, ...: every fifth in a photo, the others in two-view tracks."""
    frame = None if number % 5 == 0 else number
    track = None if frame is None else TrackSpan(number // 2 + 1, 0.0, 9.0, 40)
    camera = f"c{number % 3}" if frame is None else f"v{number // 2 % 2}"
    person = StoredPerson(
        *(number, "/photos", f"{number}.jpg" if frame is None else f"{number // 2}.mp4"),
        np.array([1, 2, 11, 22 + number], np.float32),
        *(number / COUNT, frame, None if frame is None else frame / 4, float(number), camera),
        size=(640, 480),
        track=track,
    )
    return PersonRecord(person, VECTORS[number - 1], f"jpeg{number}".encode())


RECORDS = [record(number) for number in range(1, COUNT + 1)]


PLACES: dict[str, Callable[[Path], Path | str]] = {
    "store": lambda folder: folder / "store",
    "milvus": lambda folder: f"milvus-lite:{folder / 'people.db'}",
}


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    return PLACES[request.param](tmp_path)


@pytest.fixture
def engine(place: Path | str) -> Iterator[Engine]:
    opened = open_engine(place, model=MODEL, create=True)
    assert opened.upsert(RECORDS) == COUNT
    yield opened
    opened.close()


def same(one: PersonRecord, other: PersonRecord) -> bool:
    plain = [
        (r.person.box.tolist(), r.vector.tolist(), r.thumbnail, replace(r.person, box=None))  # type: ignore[arg-type]
        for r in (one, other)
    ]
    return plain[0][:3] == plain[1][:3] and vars(plain[0][3]) == vars(plain[1][3])


def test_everything_comes_back_as_it_went_in(engine: Engine) -> None:
    batches = list(engine.iterate(batch=64))
    assert [len(batch) for batch in batches] == [64, 64, 64, 8]
    found = [one for batch in batches for one in batch]
    assert all(map(same, found, RECORDS))
    rest = [one.person.id for batch in engine.iterate(after=190) for one in batch]
    assert rest == list(range(191, 201))
    assert engine.thumbnail(7) == b"jpeg7"
    assert [person.id for person in engine.get([9, 3])] == [9, 3]
    np.testing.assert_array_equal(engine.vectors([9, 3]), VECTORS[[8, 2]])
    with pytest.raises(StoreError, match="no person 999"):
        engine.vectors([999])


def test_search_of_several_queries_equals_the_product(engine: Engine) -> None:
    chosen = Filters(cameras=("c1", "v1"), since=20.0, until=150.0, min_height=60.0)
    meant = np.array(
        [
            one.person.camera in ("c1", "v1") and 20 <= one.person.id < 150 and one.person.id >= 40
            for one in RECORDS
        ]
    )
    assert engine.count(chosen) == meant.sum() > 20
    assert engine.count() == COUNT
    without = [RECORDS[i].person.id for i in np.flatnonzero(meant)[:2]]
    for filters, left in ((Filters(), ()), (chosen, without)):
        for query, ranking in zip(
            QUERIES,
            engine.search(QUERIES, top=9, filters=filters, without=left),
            strict=True,
        ):
            cosines = VECTORS.astype(np.float32) @ query
            allowed = np.ones(COUNT, bool) if filters.everyone else meant.copy()
            allowed[np.array(left, int) - 1] = False
            order = [i for i in np.argsort(-cosines, kind="stable") if allowed[i]][:9]
            assert ranking.ids.tolist() == [i + 1 for i in order]
            np.testing.assert_allclose(ranking.similarities, cosines[order], atol=2e-6)


def test_replacing_and_erasing(engine: Engine) -> None:
    changed = replace(RECORDS[4], vector=VECTORS[0], thumbnail=b"new")
    assert engine.upsert([changed]) == 1
    assert engine.count() == COUNT
    assert engine.thumbnail(5) == b"new"
    assert engine.search(VECTORS[:1].astype(np.float32), top=2)[0].ids.tolist() == [1, 5]
    # Person 6 is in a track with 7: a person is a track.
    assert engine.track_members(4) == [6, 7]
    assert engine.delete([5, 6]) == 3
    assert engine.count() == COUNT - 3
    assert engine.delete([]) == 0
    assert sum(engine.sources().values()) == engine.count()
    assert engine.cameras() == {
        camera: sum(
            one.person.camera == camera for one in RECORDS if one.person.id not in (5, 6, 7)
        )
        for camera in ("c0", "c1", "c2", "v0", "v1")
    }


def test_every_erasure_is_two_lines_and_needs_the_first(engine: Engine) -> None:
    source = RECORDS[0].person.source
    assert engine.erase(Filters(people=[5]), caller="anna") == 1
    engine.erase_files(source, [RECORDS[0].person.name], caller="bert")
    lines = [(one.action, one.who) for one in engine.audit.entries()]
    assert lines == [(action, who) for who in ("anna", "bert") for action in ("erase", "erased")]
    assert list(engine.audit.entries())[2].details == {
        "source": source,
        "pictures": [RECORDS[0].person.name],
    }
    left = engine.count()
    (engine.audit.folder / LOG).write_bytes(b"")
    for erase_some in (
        lambda: engine.erase(Filters(people=[6])),
        lambda: engine.erase_files(source),
        lambda: engine.delete([6]),
    ):
        with pytest.raises(StoreError, match="its end was changed"):
            erase_some()
    assert engine.count() == left


EMPTY = ([], (), set(), frozenset(), "", {}, range(0))


def erase(engine: Engine, filters: Filters) -> int:
    """Erase from a Milvus collection, or from the store under the engine."""
    if isinstance(engine, MilvusEngine):
        return engine.erase(filters)
    with open_store(engine.uri, write=True) as store:
        return store.erase(filters)


@pytest.mark.parametrize("field", ["people", "cameras", "sources", "names"])
def test_an_empty_selection_selects_nobody(engine: Engine, field: str) -> None:
    for empty in EMPTY:
        filters = Filters(**{field: empty})  # type: ignore[arg-type]
        assert engine.count(filters) == 0
        assert engine.search(QUERIES[:1], filters=filters)[0].ids.tolist() == []
        assert erase(engine, filters) == 0
        assert erase(engine, replace(filters, min_score=0.0, since=0.0)) == 0
    assert engine.count() == COUNT


@pytest.mark.parametrize(
    "nothing",
    [
        *({name: None} for name in ("people", "cameras", "sources", "names", "since", "until")),
        *({"min_score": 0.0}, {"min_score": -3.0}, {"min_height": -1}, {"min_height": 0.0}),
        *({"since": float("-inf")}, {"until": float("inf"), "min_score": 0.0}),
    ],
)
def test_filters_that_restrict_nothing_do_not_erase_everyone(
    engine: Engine, nothing: dict[str, Any]
) -> None:
    with pytest.raises(StoreError, match="no person, picture, source or time was named"):
        erase(engine, Filters(**nothing))
    assert engine.count() == COUNT
    assert len(engine.search(QUERIES[:1], filters=Filters(**nothing))[0].ids) == 20


def test_equals_come_in_the_order_of_ids_even_where_the_answer_ends(engine: Engine) -> None:
    same = VECTORS[:1].repeat(150, axis=0)
    engine.upsert([replace(one, vector=v) for one, v in zip(RECORDS[50:], same, strict=True)])
    query = VECTORS[:1].astype(np.float32)
    for top in (1, 2, 5, 100):
        expected = [1, *range(51, 50 + top)]
        assert engine.search(query, top=top)[0].ids.tolist() == expected
    (everyone,) = engine.search(query, top=COUNT + 5)
    assert sorted(everyone.ids.tolist()) == list(range(1, COUNT + 1))
    assert len(set(everyone.similarities[:151].tolist())) == 1
    assert engine.search(query, top=0)[0].ids.tolist() == []


def test_weighted_people_are_ranked_by_similarity_times_score(tmp_path: Path) -> None:
    for place in PLACES.values():
        engine = open_engine(place(tmp_path), model=replace(MODEL, weighted=True), create=True)
        assert engine.model.weighted
        engine.upsert(RECORDS)
        for query, ranking in zip(QUERIES, engine.search(QUERIES, top=7), strict=True):
            cosines = (VECTORS.astype(np.float32) @ query).round(6)
            ranked = cosines * np.array([one.person.score for one in RECORDS], np.float32)
            order = np.argsort(-ranked, kind="stable")[:7]
            assert ranking.ids.tolist() == (order + 1).tolist()
            np.testing.assert_allclose(ranking.similarities, cosines[order], atol=2e-6)
            np.testing.assert_allclose(ranking.rank_scores, ranked[order], atol=2e-6)
        engine.close()


def test_nobody_is_there(place: Path | str) -> None:
    engine = open_engine(place, model=MODEL, create=True)
    assert [ranking.ids.tolist() for ranking in engine.search(QUERIES)] == [[], [], []]
    assert (engine.count(), engine.cameras(), list(engine.iterate())) == (0, {}, [])
    assert engine.people_in(Path("/photos/1.jpg")) == engine.get([]) == []
    assert engine.vectors([]).shape == (0, DIM)
    assert engine.thumbnail(1) == b""
    engine.close()


def test_it_is_all_there_when_it_is_opened_again(engine: Engine, place: Path | str) -> None:
    engine.close()
    again = open_engine(place)
    assert again.model == MODEL
    found = [one for batch in again.iterate() for one in batch]
    assert len(found) == COUNT
    assert all(map(same, found, RECORDS))
    again.close()


def test_names_are_compared_as_they_are(engine: Engine) -> None:
    odd = [
        '"',
        "'",
        "\\",
        "\\n",
        "a\nb",
        "{camera}",
        'x" or id > 0 or camera == "',
        "Zoë 東京",
        "%",
    ]
    people = []
    for number, name in enumerate(odd, start=1001):
        person = replace(RECORDS[4].person, id=number, source=f"/{name}", name=name, camera=name)
        people.append(PersonRecord(person, VECTORS[0], b""))
    engine.upsert(people)
    for number, name in enumerate(odd, start=1001):
        assert engine.count(Filters(cameras=(name,))) == 1
        assert engine.count(Filters(names=(name, "none"), sources=(f"/{name}",))) == 1
        (found,) = engine.search(QUERIES[:1], filters=Filters(cameras=(name,)))
        assert found.ids.tolist() == [number]
        (person,) = engine.get([number])
        assert (person.source, person.name, person.camera) == (f"/{name}", name, name)
    assert engine.people_in(Path("/photos/5.jpg")) == [5]
    assert engine.people_in(Path("/photos/3.mp4")) == [6, 7]
    assert engine.count(Filters(people=(3, 5, 12345))) == 2


def test_several_threads_search_at_once(engine: Engine) -> None:
    alone = engine.search(QUERIES, top=5)
    with ThreadPoolExecutor(8) as pool:
        several = list(pool.map(lambda _: engine.search(QUERIES, top=5), range(40)))
    for found in several:
        for one, other in zip(found, alone, strict=True):
            assert one.ids.tolist() == other.ids.tolist()


def test_another_thread_counts_again_what_one_has_counted(engine: Engine) -> None:
    counted = engine.cameras()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(engine.cameras).result(timeout=30) == counted


def test_what_does_not_fit_is_refused(engine: Engine) -> None:
    with pytest.raises(StoreError, match=r"shape \(2, 3\), expected \(Q, 16\)"):
        engine.search(np.ones((2, 3), np.float32))
    with pytest.raises(StoreError, match=r"shape \(3,\), expected \(16,\)"):
        engine.upsert([replace(RECORDS[0], vector=np.ones(3, np.float16))])
    with pytest.raises(StoreError, match="made by model"):
        open_engine(engine.uri, model=ModelIdentity("other", "e" * 64, DIM))
