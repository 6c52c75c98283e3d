"""Milvus collections: addresses, what a server receives, and collections of other programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personsearch.engines.engine import PersonRecord
from personsearch.engines.milvus import MilvusEngine
from personsearch.engines.milvus_collection import (
    Collection,
    Expression,
    MilvusAddress,
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
    people.rows(Expression.of(filters, without=[8, 9]), ["id"])
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
