"""The page's API over Milvus: the same answers as over a folder, and ids of any size."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crowd import RED, Crowd, open_crowd
from starlette.testclient import TestClient

from personsearch.engines.uri import open_engine
from personsearch.search.archive import Archive
from personsearch.store.audit import AuditLog
from personsearch.web.app import create_app

AWAY = 2**60
"""Added to every id: no number of JavaScript."""


@pytest.fixture
def moved(store: Path, tmp_path: Path) -> Iterator[TestClient]:
    """The archive of the other tests, in Milvus, under ids as Milvus has them."""
    from dataclasses import replace

    place = f"milvus-lite:{tmp_path / 'people.db'}"
    with open_crowd(store) as archive:
        engine = open_engine(place, model=archive.engine.model, create=True)
        for batch in archive.engine.iterate():
            far = [replace(r, person=replace(r.person, id=r.person.id + AWAY)) for r in batch]
            engine.upsert(far)
    with Archive(engine, state=tmp_path / "state") as archive:
        archive._network = Crowd()
        (tmp_path / "state").mkdir()
        app = create_app(archive)
        with TestClient(app, base_url="http://localhost") as opened:
            yield opened


def test_the_same_answers(
    moved: TestClient, client: TestClient, png: Callable[..., bytes], tmp_path: Path
) -> None:
    both = []
    for one in (client, moved):
        query = one.post("/api/v1/queries", content=png({20: RED})).json()
        example = {"query": query["id"], "box": query["people"][0]["box"]}
        answer = one.post("/api/v1/search", json={"examples": [example], "top": 50}).json()
        both.append([(h["person"]["id"], h["similarity"]) for h in answer["hits"]])
        store = one.get("/api/v1/store").json()
        both.append((store["people"], store["cameras"]))
    assert [(str(int(i) + AWAY), s) for i, s in both[0]] == both[2]
    assert both[1] == both[3]
    best = both[2][0][0]
    assert json.loads(moved.get(f"/api/v1/people/{best}").text)["id"] == best
    assert moved.get(f"/api/v1/people/{best}/thumbnail").content.startswith(b"\xff\xd8")
    assert moved.get(f"/api/v1/people/{best}/picture").status_code == 200
    like = moved.post("/api/v1/search", json={"people": [best]}).json()
    assert best not in [hit["person"]["id"] for hit in like["hits"]]
    report = f"/api/v1/results/{like['result']}/report"
    assert moved.post(report, json={"format": "csv", "right": [best]}).status_code == 200
    erased = client.post("/api/v1/erase", json={"people": [both[0][0][0]]}).json()
    assert moved.post("/api/v1/erase", json={"people": [best]}).json() == erased
    assert moved.get(f"/api/v1/people/{best}").status_code == 404
    assert moved.post("/api/v1/pictures?name=a.png", content=png({20: RED})).status_code == 409
    assert moved.get("/healthz").json()["status"] == "ok"
    actions = [entry.action for entry in AuditLog(tmp_path / "state").entries()]
    assert actions == ["search", "search", "report", "erase", "erased"]


def test_ids_that_are_none(client: TestClient) -> None:
    for one in ("0", "01", "-1", "1e3", "9" * 19, "9" * 40, 2**63, 0, True, 1.5, None, ""):
        assert client.post("/api/v1/search", json={"people": [one]}).status_code == 422, one
    for one in (1, "1"):
        assert client.post("/api/v1/search", json={"people": [one]}).status_code == 200
