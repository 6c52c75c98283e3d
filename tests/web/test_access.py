"""Who may ask: keys, scopes, revoking, and how often."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crowd import RED, open_crowd
from starlette.testclient import TestClient

from personsearch.store.audit import HEAD, LOG, AuditLog
from personsearch.web.app import create_app
from personsearch.web.keys import KEYS, Keys
from personsearch.web.service import Settings


@pytest.fixture
def guarded(store: Path) -> Iterator[TestClient]:
    """A service that others can reach."""
    settings = Settings(keys_needed=True, burst=40, rate=0.001, wrong_burst=5, wrong_rate=0.01)
    with (
        open_crowd(store) as archive,
        TestClient(create_app(archive, settings), base_url="http://localhost") as opened,
    ):
        yield opened


def key(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_a_key_is_needed_and_its_scope(guarded: TestClient, store: Path) -> None:
    search = Keys(store).make("desk", ["search"])
    audit = Keys(store).make("auditor", ["audit"])
    body = {"people": [1]}
    nobody = guarded.post("/api/v1/search", json=body)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    for wrong in (f"Basic {search}", search, "Bearer", "Bearer nonsense"):
        answer = guarded.post("/api/v1/search", json=body, headers={"authorization": wrong})
        assert answer.status_code == 401, wrong
    assert guarded.post("/api/v1/search", json=body, headers=key(search)).status_code == 200
    for secret, method, path in (
        (audit, "POST", "search"),
        (audit, "GET", "people/1/picture"),
        (search, "POST", "erase"),
        (search, "GET", "audit"),
    ):
        sent = body if method == "POST" else None
        answer = guarded.request(method, f"/api/v1/{path}", json=sent, headers=key(secret))
        assert answer.status_code == 403, path
        assert "lacks the scope" in answer.json()["detail"]
    told = guarded.get("/api/v1/store", headers=key(audit)).json()
    assert (told["who"], told["place"], told["cameras"]) == ("auditor", "", [])
    (entry,) = (one for one in AuditLog(store).entries() if one.action == "search")
    assert entry.who == "desk"
    Keys(store).revoke("desk")
    assert guarded.post("/api/v1/search", json=body, headers=key(search)).status_code == 401
    for path in ("/", "/healthz", "/static/app.js"):
        assert guarded.get(path).status_code == 200, path
    assert guarded.get("/metrics").status_code == 401


def test_wrong_keys_are_throttled_and_right_ones_are_not(guarded: TestClient, store: Path) -> None:
    right = Keys(store).make("desk", ["search"])
    answers = [guarded.get("/api/v1/store", headers=key(f"psk_{n}")) for n in range(100)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 95
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert guarded.get("/api/v1/store", headers=key(right)).status_code == 200


def test_too_many_requests(guarded: TestClient, store: Path) -> None:
    one, other = (Keys(store).make(name, ["search"]) for name in ("one", "other"))
    found = [guarded.get("/api/v1/cameras", headers=key(one)).status_code for _ in range(42)]
    assert found == [200] * 40 + [429] * 2
    assert guarded.get("/api/v1/cameras", headers=key(other)).status_code == 200


def test_a_key_closes_a_server_that_was_open(client: TestClient, store: Path) -> None:
    assert client.get("/api/v1/store").status_code == 200
    assert "security" not in client.get("/api/v1/openapi.json").json()
    secret = Keys(store).make("desk", ["search"])
    assert client.get("/api/v1/store").status_code == 401
    assert client.get("/api/v1/openapi.json").json()["security"] == [{"key": []}]
    assert client.get("/api/v1/store", headers=key(secret)).status_code == 200
    # Revoking the last key does not open it again, nor does a file that cannot be read.
    Keys(store).revoke("desk")
    assert client.get("/api/v1/store").status_code == 401
    (store / KEYS).write_text("nothing", encoding="utf-8")
    assert client.get("/api/v1/store").status_code == 503


def test_what_one_sent_is_not_for_another(guarded: TestClient, store: Path) -> None:
    one, other = (Keys(store).make(name, ["search"]) for name in ("one", "other"))
    found = guarded.post("/api/v1/search", json={"people": [1]}, headers=key(one)).json()
    address = f"/api/v1/results/{found['result']}/report"
    assert guarded.post(address, json={}, headers=key(other)).status_code == 404
    assert guarded.post(address, json={}, headers=key(one)).status_code == 200


def test_a_key_named_local_gets_nothing_that_was_sent_without_a_key(
    client: TestClient, store: Path, png: Callable[..., bytes]
) -> None:
    sent = {"content": png({20: RED}), "params": {"name": "a.png"}}
    first = client.post("/api/v1/pictures", **sent)
    upload = client.post("/api/v1/queries", content=png({20: RED})).json()["id"]
    assert first.status_code == 201
    secret = Keys(store).make("desk", ["search", "index"])
    # Version 0.1 made keys of that name.
    written = (store / KEYS).read_text(encoding="utf-8")
    (store / KEYS).write_text(written.replace("desk", "local"), encoding="utf-8")
    client.headers["authorization"] = f"Bearer {secret}"
    again = client.post("/api/v1/pictures", **sent).json()
    assert not again["skipped"]
    assert set(again["people"]).isdisjoint(first.json()["people"])
    assert client.get(f"/api/v1/queries/{upload}/picture").status_code == 404


def test_a_server_whose_keys_were_deleted_does_not_open_again(store: Path) -> None:
    Keys(store).make("desk", ["search"])
    (store / KEYS).unlink()
    with (
        open_crowd(store) as archive,
        TestClient(create_app(archive), base_url="http://localhost") as client,
    ):
        assert client.post("/api/v1/search", json={"people": [1]}).status_code == 401
        new = Keys(store).make("table", ["search"])
        body = {"people": [1]}
        assert client.post("/api/v1/search", json=body, headers=key(new)).status_code == 200
        for name in (LOG, HEAD):
            (store / name).unlink()
        (store / KEYS).unlink()
        assert client.post("/api/v1/search", json=body).status_code == 401
    with (
        open_crowd(store) as archive,
        TestClient(create_app(archive), base_url="http://localhost") as client,
    ):
        refused = client.get("/api/v1/store")
        assert refused.status_code == 503
        assert "its end was changed" in refused.json()["detail"]
