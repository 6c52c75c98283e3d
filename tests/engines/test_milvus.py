"""The engine over Milvus: its limits, arbitrary text, and erasing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.engines import milvus
from personsearch.engines.engine import PersonRecord
from personsearch.engines.milvus import MilvusEngine
from personsearch.errors import StoreError
from personsearch.store import Filters, ModelIdentity, StoredPerson

DIM, COUNT = 8, 300
MODEL = ModelIdentity("made", "d" * 64, DIM)


ROWS = np.random.default_rng(0).normal(size=(COUNT, DIM))


VECTORS = (ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)).astype(np.float16)


def record(number: int, camera: str = "gate") -> PersonRecord:
    box = np.array([1, 2, 11, 42], np.float32)
    person = StoredPerson(
        *(number, "/photos", f"{number}.jpg", box, 0.5, None, None, None, camera), size=(64, 48)
    )
    return PersonRecord(person, VECTORS[number - 1], b"jpeg")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusEngine]:
    place = f"milvus-lite:{tmp_path_factory.mktemp('milvus') / 'people.db'}"
    with MilvusEngine(place, MODEL, create=True) as opened:
        opened.upsert([record(number) for number in range(1, COUNT + 1)])
        yield opened


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=12).filter(lambda text: "\x00" not in text))
def test_a_local_file_takes_any_text_as_text(engine: MilvusEngine, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert engine.count(Filters(cameras=(text,))) == (COUNT if text == "gate" else 0)
    assert engine.count(Filters(cameras=(text, "gate"))) == COUNT


@pytest.mark.parametrize("limit", [4, 64, 200])
def test_more_people_than_one_answer_holds(
    engine: MilvusEngine, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = VECTORS[:2].astype(np.float32)
    expected = engine.search(queries, top=150)
    chosen = engine.search(queries, top=3, filters=Filters(cameras=("gate",)), without=[1])
    monkeypatch.setattr(milvus, "LIMIT", limit)
    for one, other in zip(engine.search(queries, top=150), expected, strict=True):
        assert len(one.ids) == 150
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.similarities, other.similarities)
    again = engine.search(queries, top=3, filters=Filters(cameras=("gate",)), without=[1])
    assert [one.ids.tolist() for one in again] == [one.ids.tolist() for one in chosen]


def test_what_does_not_fit_is_refused(engine: MilvusEngine) -> None:
    large = replace(record(1), thumbnail=b"x" * 49_150)
    with pytest.raises(StoreError, match="49150 bytes for person 1, expected at most 49149"):
        engine.upsert([large])
    assert engine.thumbnail(1) == b"jpeg"
    fits = replace(large, thumbnail=b"x" * 49_149)
    engine.upsert([fits])
    assert engine.thumbnail(1) == fits.thumbnail
    engine.upsert([record(1)])
    with pytest.raises(StoreError, match="drop the collection"):
        engine.erase(Filters())


def test_two_in_one_process(engine: MilvusEngine) -> None:
    with MilvusEngine(engine.uri) as other:
        assert other.count() == COUNT
    assert engine.count() == COUNT


def test_erased_people_are_found_by_no_reading(tmp_path: Path) -> None:
    with MilvusEngine(f"milvus-lite:{tmp_path / 'p.db'}", MODEL, create=True) as engine:
        engine.upsert([record(1), record(2, "door"), record(3)])
        assert engine.erase(Filters(cameras=("door",))) == 1
        assert engine.compact()
        assert engine.count() == 2
        assert engine.search(VECTORS[1:2].astype(np.float32))[0].ids.tolist() != [2]
        assert engine.thumbnail(2) == b""
        assert [one.person.id for batch in engine.iterate() for one in batch] == [1, 3]
        with pytest.raises(StoreError, match="no person 2"):
            engine.get([2])
