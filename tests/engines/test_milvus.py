"""Milvus itself: places, what a server is told, its limits, and collections that are not ours."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.engines import milvus
from personsearch.engines.engine import PersonRecord
from personsearch.engines.milvus import MilvusEngine
from personsearch.engines.milvus_collection import (
    Collection,
    MilvusAddress,
    condition,
    connect,
    disconnect,
    file_row,
    parse_address,
    row_of,
    vectors_of,
)
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


def test_places() -> None:
    found = parse_address("milvus://gate.example:19531/people_2")
    assert (found.server, found.collection) == ("http://gate.example:19531", "people_2")
    assert parse_address("milvus+https://[::1]/").server == "https://[::1]:19530"
    assert parse_address("milvus://h").collection == "people"
    lite = parse_address("milvus-lite:~/x.db")
    assert (lite.server, lite.lite) == (str(Path.home() / "x.db"), True)
    wrong = ("milvus://", "milvus://user:secret@host/x", "milvus://h/a-b", "milvus://h/a/b")
    for place in (*wrong, "milvus://h:x/a", "milvus-lite:x", "milvus:h"):
        with pytest.raises(StoreError, match="expected"):
            parse_address(place)


def test_nobody_answers_and_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^milvus://127.0.0.1:1/x: Milvus reports: "):
        connect(parse_address("milvus://127.0.0.1:1/x"), timeout=0.3)
    with pytest.raises(StoreError, match="there is no such file"):
        MilvusEngine(f"milvus-lite:{tmp_path / 'none.db'}")


class Told:
    """Stands where a server would: notes what it is asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def query(self, name: str, **arguments: Any) -> list[Any]:
        self.asked = arguments
        return []


def test_a_server_gets_values_beside_the_text() -> None:
    told = Told()
    people = Collection(told, MilvusAddress("p", "u", "people"), "people", True, True)
    evil = 'x" or id > 0 or camera == "'
    filters = Filters(cameras=[evil], since=1.0, until=2.0, min_score=0.5, min_height=3, people=[7])
    people.rows(condition(filters, without=[8, 9]), ["id"])
    assert told.asked["filter"] == (
        "camera in {cameras} and id in {people} and time >= {since} and time < {until} "
        "and score >= {min_score} and height >= {min_height} and id not in {without}"
    )
    assert told.asked["filter_params"] == {
        "cameras": [evil],
        "people": [7],
        **{"since": 1.0, "until": 2.0, "min_score": 0.5, "min_height": 3.0, "without": [8, 9]},
    }
    assert told.asked["consistency_level"] == "Strong"
    # pymilvus can write each of these values into its message.
    from pymilvus.client.prepare import Prepare

    assert len(Prepare.prepare_expression_template(told.asked["filter_params"])) == 7


def test_half_precision_is_written_and_read_as_bytes() -> None:
    people = Collection(Told(), MilvusAddress("p", "u", "people"), "people", True, True)
    row = row_of(people, record(3))
    assert row["vector"] == VECTORS[2].tobytes()
    np.testing.assert_array_equal(
        vectors_of([row, {"vector": [row["vector"]]}], DIM), VECTORS[[2, 2]]
    )


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
    with pytest.raises(StoreError, match="49150 bytes came for person 1, expected at most 49149"):
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


def test_a_collection_that_is_not_ours_and_a_newer_one(tmp_path: Path) -> None:
    place = f"milvus-lite:{tmp_path / 'p.db'}"
    address = parse_address(place)
    client = connect(address)
    client.create_collection("people", dimension=4)
    disconnect(client, address)
    with pytest.raises(StoreError, match="was not made by personsearch"):
        MilvusEngine(place, MODEL, create=True)
    newer = f"milvus-lite:{tmp_path / 'newer.db'}"
    with MilvusEngine(newer, MODEL, create=True) as engine:
        note = '{"schema": 2, "name": "m", "fingerprint": "f", "dim": 8, "weighted": false}'
        engine.files.upsert([file_row(engine.files, 0, note=note, state="model")])
    with pytest.raises(StoreError, match="newer version of personsearch"):
        MilvusEngine(newer)
