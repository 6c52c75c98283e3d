"""The archive over the API: what is in it, its audit log, health and metrics."""

from pathlib import Path

from crowd import HOSTILE, MODEL, open_crowd
from starlette.testclient import TestClient

from personsearch.store import DATABASE, open_store
from personsearch.web.app import create_app


def test_what_is_in_it(client: TestClient, store: Path) -> None:
    told = client.get("/api/v1/store").json()
    assert told["place"] == str(store)
    assert (told["who"], told["scopes"]) == ("local", ["search", "index", "erase", "audit"])
    cameras = client.get("/api/v1/cameras").json()
    assert told["cameras"] == cameras
    assert {one["name"] for one in cameras} == {"gate", "door", HOSTILE}
    assert told["people"] == sum(one["people"] for one in cameras)


def test_an_erasure_that_is_not_finished_shows(client: TestClient, store: Path) -> None:
    with open_store(store, write=True) as opened:
        opened.compact()
        assert client.get("/api/v1/store").json()["scrubbed"] is True
        with opened.writing():
            opened.mark_erased()
    assert client.get("/api/v1/store").json()["scrubbed"] is False


def test_the_audit_log(client: TestClient, store: Path) -> None:
    for _ in range(3):
        client.post("/api/v1/search", json={"people": [1], "filters": {"cameras": ["gate"]}})
    page = client.get("/api/v1/audit", params={"limit": 2}).json()
    assert page["count"] == 3
    assert [line["number"] for line in page["lines"]] == [3, 2]
    assert page["lines"][0]["details"]["filters"] == {"cameras": ["gate"]}
    rest = client.get("/api/v1/audit", params={"limit": 2, "skip": 2}).json()
    assert [line["number"] for line in rest["lines"]] == [1]
    assert client.get("/api/v1/audit", params={"skip": 9}).json()["lines"] == []
    check = client.get("/api/v1/audit/check").json()
    assert check == {"whole": True, "problem": "", "count": 3, "head": page["lines"][0]["hash"]}
    other = client.get("/api/v1/audit/check", params={"head": "a" * 64}).json()
    assert not other["whole"]


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    client.post("/api/v1/search", json={"people": [1]})
    text = client.get("/metrics").text
    assert "personsearch_searches_total 1.0" in text
    assert (
        'personsearch_requests_total{method="POST",route="/api/v1/search",status="200"} 1' in text
    )


def test_an_empty_store(tmp_path: Path) -> None:
    with open_store(tmp_path, model=MODEL, write=True):
        pass
    with (
        open_crowd(tmp_path) as archive,
        TestClient(create_app(archive), base_url="http://localhost") as client,
    ):
        told = client.get("/api/v1/store").json()
        assert (told["people"], told["cameras"]) == (0, [])
        assert client.post("/api/v1/search", json={"people": [1]}).status_code == 404
        assert client.get("/healthz").status_code == 200


def test_a_store_that_is_damaged_meanwhile(store: Path) -> None:
    with (
        open_crowd(store) as archive,
        TestClient(create_app(archive), base_url="http://localhost") as client,
    ):
        # The service opens the store when it is first asked.
        data = bytearray((store / DATABASE).read_bytes())
        data[100:] = b"\xff" * (len(data) - 100)
        (store / DATABASE).write_bytes(data)
        for suffix in ("-wal", "-shm"):
            (store / f"{DATABASE}{suffix}").unlink(missing_ok=True)
        for method, path in (("GET", "store"), ("GET", "people/1"), ("POST", "search")):
            body = {"people": [1]} if method == "POST" else None
            answer = client.request(method, f"/api/v1/{path}", json=body)
            assert answer.status_code == 503, path
            assert "damaged" in answer.json()["detail"]
        assert client.get("/healthz").status_code == 503
