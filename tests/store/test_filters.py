"""Filters: None restricts nothing, an empty selection selects nobody, in all three forms."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from few_people import DIM

from personsearch.errors import StoreError
from personsearch.store import open_store
from personsearch.store.filters import EVERYONE, Filters

NOBODY = np.zeros(0, np.int64)
EMPTY = ([], (), set(), frozenset(), "", {}, range(0), np.zeros(0, np.int64))


@pytest.mark.parametrize("field", ["people", "cameras", "sources", "names"])
@pytest.mark.parametrize("empty", EMPTY)
def test_empty_and_missing_are_two_things(field: str, empty: Any) -> None:
    filters = Filters(**{field: empty})
    assert not filters.everyone
    assert filters != EVERYONE
    assert filters.described() == {field: []}
    assert filters.milvus([3]) == ("id < {first}", {"first": 0})
    text, values = filters.sql()
    assert text.endswith("IN (SELECT value FROM json_each(?))")
    assert values == ["[]"]
    nothing = Filters(**{field: None})
    assert nothing.everyone
    assert (nothing.sql(), nothing.milvus()) == (("", []), ("", {}))


@pytest.mark.parametrize(
    ("given", "everyone"),
    [
        ({}, True),
        ({"min_score": 0.0, "min_height": -1}, True),
        ({"since": float("-inf"), "until": float("inf")}, True),
        ({"min_score": 0.01}, False),
        ({"min_height": 1}, False),
        ({"since": 0.0}, False),
        ({"until": -5.0}, False),
        ({"names": [""]}, False),
    ],
)
def test_whether_everyone_is_selected(given: dict[str, Any], everyone: bool) -> None:
    assert Filters(**given).everyone is everyone


def test_a_text_is_not_taken_for_its_letters() -> None:
    with pytest.raises(StoreError, match=r"cameras is the text 'gate', expected a list"):
        Filters(cameras="gate")
    with pytest.raises(StoreError, match="since is nan, expected a number"):
        Filters(since=float("nan"))


@pytest.mark.parametrize("bound", ["since", "until", "min_score", "min_height"])
@pytest.mark.parametrize("value", ["2020-01-01", b"1", [1.0]])
def test_a_bound_is_a_number(bound: str, value: Any) -> None:
    with pytest.raises(StoreError, match=rf"{bound} is .*, expected a number"):
        Filters(**{bound: value})


@pytest.mark.parametrize("value", [np.int64(1000), np.float32(1000), 1000, True])
def test_bounds_are_plain_floats(value: Any) -> None:
    assert type(Filters(until=value).until) is float


@pytest.mark.parametrize("given", [{"people": [1.9]}, {"people": [2**70]}, {"people": ["1"]}])
def test_ids_are_whole_numbers(given: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="expected ids of people"):
        Filters(**given)


def test_names_are_texts() -> None:
    assert Filters(sources=[Path("/photos")]).sources == ("/photos",)  # type: ignore[list-item]
    with pytest.raises(StoreError, match="cameras has 3, expected texts"):
        Filters(cameras=[3])  # type: ignore[list-item]


def test_infinite_bounds_are_written_as_numbers() -> None:
    json.dumps(Filters(until=float("inf"), min_height=1).described(), allow_nan=False)


def test_selections_are_plain_and_comparable() -> None:
    filters = Filters(people=np.array([3, 1]), cameras=["a"])  # type: ignore[arg-type]
    assert filters.people == (3, 1)
    assert all(type(one) is int for one in filters.people)
    assert hash(filters) == hash(Filters(people=(3, 1), cameras=("a",)))
    assert filters.described() == {"cameras": ["a"], "people": [3, 1]}
    assert filters.of_files() == Filters(cameras=["a"])
    assert Filters(people=[1]).of_files() is None


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
