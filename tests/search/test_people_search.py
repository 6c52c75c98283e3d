"""Search of a store against the plain product, with filters, examples and negatives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personsearch.engines.sqlite import StoreEngine
from personsearch.errors import DataError, StoreError
from personsearch.search.people_search import combine, search_people
from personsearch.search.reranking import Rerank
from personsearch.store import (
    FileStamp,
    Filters,
    FoundPeople,
    ModelIdentity,
    open_store,
)

DIM, COUNT = 16, 300


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


VECTORS = unit(np.random.default_rng(0).normal(size=(COUNT, DIM)))
SCORES = np.linspace(0.2, 1.0, COUNT).astype(np.float32)
QUERY = unit(np.random.default_rng(1).normal(size=DIM))


def make(folder: Path, weighted: bool = False) -> Path:
    model = ModelIdentity("made", "d" * 64, DIM, weighted)
    with open_store(folder, model=model, write=True) as store:
        for camera in range(3):
            rows = np.arange(camera, COUNT, 3)
            file = store.begin_file(f"/camera{camera}", "a.jpg", FileStamp(1, 1), f"c{camera}")
            boxes = np.tile(np.array([[0, 0, 10, 20]], np.float32), (len(rows), 1))
            found = FoundPeople(
                (64, 48), boxes, SCORES[rows], VECTORS[rows], [b""] * len(rows), time=float(camera)
            )
            store.add(file, [found], finished=True)
    return folder


ROWS = np.concatenate([np.arange(camera, COUNT, 3) for camera in range(3)])
"""The row of `VECTORS` of person 1, 2, ..."""


@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_plain_product(tmp_path: Path, weighted: bool) -> None:
    with StoreEngine(make(tmp_path, weighted)) as store:
        matches = search_people(store, QUERY, top=7)
    cosines = VECTORS[ROWS].astype(np.float16).astype(np.float32) @ QUERY
    ranked = cosines * SCORES[ROWS] if weighted else cosines
    order = np.argsort(-ranked, kind="stable")[:7]
    assert [match.person.id for match in matches] == (order + 1).tolist()
    np.testing.assert_allclose([m.similarity for m in matches], cosines[order], atol=1e-6)
    np.testing.assert_allclose([m.rank_score for m in matches], ranked[order], atol=1e-6)


def test_filters_and_people_who_are_left_out(tmp_path: Path) -> None:
    with StoreEngine(make(tmp_path)) as store:
        everyone = search_people(store, QUERY, top=COUNT)
        assert len(everyone) == COUNT
        some = search_people(store, QUERY, filters=Filters(cameras=("c1",), min_score=0.5), top=9)
        meant = [m.person for m in everyone if m.person.camera == "c1" and m.person.score >= 0.5]
        assert [m.person.id for m in some] == [person.id for person in meant[:9]]
        first = everyone[0].person.id
        without = search_people(store, QUERY, top=3, without=[first, everyone[2].person.id])
        assert [m.person.id for m in without] == [everyone[n].person.id for n in (1, 3, 4)]
        assert search_people(store, QUERY, filters=Filters(cameras=("none",))) == []


def test_equal_similarities_come_in_the_order_of_ids(tmp_path: Path) -> None:
    model = ModelIdentity("made", "d" * 64, DIM)
    with open_store(tmp_path, model=model, write=True) as store:
        file = store.begin_file("/a.jpg", "", FileStamp(1, 1))
        boxes = np.tile(np.array([[0, 0, 10, 20]], np.float32), (50, 1))
        same = np.tile(VECTORS[:1], (50, 1))
        store.add(file, [FoundPeople((64, 48), boxes, np.ones(50, np.float32), same, [b""] * 50)])
    with StoreEngine(tmp_path) as engine:
        assert [m.person.id for m in search_people(engine, QUERY, top=5)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("rerank", [None, "k-reciprocal", "expansion"])
def test_who_is_erased_during_a_search_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rerank: Rerank | None
) -> None:
    model = ModelIdentity("made", "d" * 64, DIM)
    with open_store(tmp_path, model=model, write=True) as store:
        file = store.begin_file("/a.jpg", "", FileStamp(1, 1))
        boxes = np.tile(np.array([[0, 0, 10, 20]], np.float32), (50, 1))
        same = np.tile(VECTORS[:1], (50, 1))
        store.add(file, [FoundPeople((64, 48), boxes, np.ones(50, np.float32), same, [b""] * 50)])
    victims = iter([[1, 3], [2], [4]])
    with StoreEngine(tmp_path) as engine:
        for name in ("search", "find"):  # erased after the ranking, and after the people are read
            asked = getattr(engine, name)

            def then_erased(*args: Any, asked: Any = asked, **named: Any) -> Any:
                answer = asked(*args, **named)
                if ids := next(victims, None):
                    engine.delete(ids)
                return answer

            monkeypatch.setattr(engine, name, then_erased)
        found = [m.person.id for m in search_people(engine, QUERY, top=5, rerank=rerank)]
    assert len(found) == 5
    assert not {1, 3} & set(found)


def test_several_examples_and_negatives() -> None:
    one, two = VECTORS[:2]
    np.testing.assert_allclose(combine(VECTORS[:1]), one, atol=1e-6)
    np.testing.assert_allclose(combine(VECTORS[:2]), unit(one + two), atol=1e-6)
    away = combine(VECTORS[:1], VECTORS[1:2])
    np.testing.assert_allclose(away, unit(one - 0.5 * two), atol=1e-6)
    assert away @ two < one @ two
    with pytest.raises(StoreError, match="no example"):
        combine(VECTORS[:0])
    with pytest.raises(DataError, match="opposite directions"):
        combine(np.stack([one, -one]))


def test_a_query_of_another_length(tmp_path: Path) -> None:
    with (
        StoreEngine(make(tmp_path)) as store,
        pytest.raises(StoreError, match=r"shape \(1, 3\), expected \(Q, 16\)"),
    ):
        search_people(store, np.ones(3, np.float32))
