"""Other sites: their pages and their names are refused, and browsers are told what is allowed."""

import pytest
from starlette.testclient import TestClient

from personsearch.web.guard import HEADERS, is_loopback, known_names


@pytest.mark.parametrize("path", ["/", "/api/v1/store", "/healthz", "/nothing", "/static/app.js"])
def test_headers_come_with_every_answer(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "access-control-allow-origin" not in answer.headers
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_pages_of_other_sites_are_refused(client: TestClient) -> None:
    for origin in (
        "https://evil.example",
        "http://localhost:1",
        "http://localhost.evil.example",
        "http://[::1",
        "null",
        "",
    ):
        for method, path in (("POST", "search"), ("POST", "erase"), ("GET", "people/1/thumbnail")):
            sent = {"people": [1]} if method == "POST" else None
            answer = client.request(
                method, f"/api/v1/{path}", json=sent, headers={"origin": origin}
            )
            assert answer.status_code == 403, (origin, path)
    own = {"origin": "http://localhost"}
    assert client.post("/api/v1/search", json={"people": [1]}, headers=own).status_code == 200
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        headers = {"sec-fetch-site": site}
        assert client.get("/api/v1/people/1", headers=headers).status_code == status
    # A link from elsewhere may lead to the page.
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200
    # Without a preflight, which a page of another site would need, JSON is no JSON.
    plain = client.post(
        "/api/v1/search", content=b'{"people": [1]}', headers={"content-type": "text/plain"}
    )
    assert plain.status_code == 422
    assert client.options("/api/v1/search", headers=own).status_code == 405


def test_other_names_are_refused(client: TestClient) -> None:
    for host in ("evil.example", "localhost.evil.example", "", "a b", "[::1", "127.0.0.1.nip.io"):
        answer = client.get("/api/v1/store", headers={"host": host})
        assert answer.status_code == 421, host
    for host in ("localhost:8008", "127.0.0.1:8008", "[::1]:8008", "192.168.1.5"):
        assert client.get("/api/v1/store", headers={"host": host}).status_code == 200, host


def test_addresses() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.5", "example.org")))
    assert known_names("127.0.0.1") == {"localhost"}
    assert {"localhost", "box.example", "seek"} <= known_names("box.example", ("Seek",))
