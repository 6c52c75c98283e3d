"""After an erasure by any process, the server's memory holds nothing of the erased."""

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crowd import RED, open_crowd
from starlette.testclient import TestClient

from personsearch.engines import index_parts
from personsearch.engines.index_parts import Snapshot
from personsearch.engines.sqlite import StoreEngine
from personsearch.store import Filters, open_store
from personsearch.web import forgetting
from personsearch.web.app import create_app
from personsearch.web.forgetting import Forgetting
from personsearch.web.service import Service, Settings


def _until(true: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_another_process_erases(
    store: Path, png: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "EVERY", 0.02)
    with (
        open_crowd(store) as archive,
        TestClient(create_app(archive), base_url="http://localhost") as client,
    ):
        query = client.post("/api/v1/queries", content=png({20: RED})).json()["id"]
        example = {"query": query, "box": [20, 60, 56, 150]}
        body = {"examples": [example], "top": 10}
        found = client.post("/api/v1/search", json=body).json()
        best = int(found["hits"][0]["person"]["id"])
        app: Any = client.app
        service: Service = app.state.service
        (upload,) = service.uploads
        assert len(upload.embeddings) == 1
        with open_store(store, write=True) as opened:
            opened.erase(Filters(people=[best]))
        address = f"/api/v1/results/{found['result']}/report"
        rows = csv.DictReader(io.StringIO(client.post(address, json={"format": "csv"}).text))
        assert str(best) not in {row["person"] for row in rows}
        assert f"person {best}<" not in client.post(address, json={}).text
        _until(lambda: not upload.embeddings)
        again = client.post("/api/v1/search", json=body).json()["hits"]
        assert best not in {int(hit["person"]["id"]) for hit in again}
        # The picture is its sender's, and can still be searched by.
        assert client.get(f"/api/v1/queries/{query}/picture").status_code == 200


def test_files_of_the_index_are_mapped_anew(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_parts, "SMALL", 4)

    def held(snapshot: Snapshot | None) -> set[int]:
        assert snapshot is not None
        return {int(one) for part in snapshot.parts for one in np.asarray(part.rows.ids)}

    with open_crowd(store) as archive:
        engine = archive.engine
        assert isinstance(engine, StoreEngine)
        service = Service(archive, Settings())
        watching = Forgetting(service)
        assert watching.once()
        assert not watching.once()
        engine.count()
        assert 1 in held(engine._index._snapshot)
        with open_store(store, write=True) as opened:
            opened.erase(Filters(people=[1]))
        assert engine.count() == 9  # left out of answers at once, and of memory next
        assert watching.once()
        _until(lambda: 1 not in held(engine._index._snapshot))
        service.close()
