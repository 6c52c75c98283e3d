"""Query pictures, searches and reports over the API."""

import csv
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crowd import BLUE, GREEN, HOSTILE, RED
from PIL import Image
from starlette.testclient import TestClient

from personsearch.store.audit import AuditLog


def send(client: TestClient, data: bytes, kind: str = "image/png") -> Any:
    return client.post("/api/v1/queries", content=data, headers={"content-type": kind})


def search(client: TestClient, **body: object) -> Any:
    answer = client.post("/api/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_picture_is_sent_and_a_person_in_it_found(
    client: TestClient, png: Callable[..., bytes], store: Path
) -> None:
    picture = png({20: RED, 120: BLUE})
    sent = send(client, picture)
    assert sent.status_code == 201
    query = sent.json()
    assert (query["width"], query["height"]) == (320, 200)
    assert query["sha256"] == hashlib.sha256(picture).hexdigest()
    assert sorted(one["box"] for one in query["people"]) == [[20, 60, 56, 150], [120, 60, 156, 150]]
    example = {"query": query["id"], "box": [20, 60, 56, 150]}
    answer = search(client, examples=[example], top=4)
    # Red three times: two photos, and the walker in the video once; then pink.
    hits = answer["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    assert {hit["person"]["camera"] for hit in hits[:3]} == {"gate", "door", HOSTILE}
    assert all(hit["similarity"] > 0.99 and hit["probability"] is None for hit in hits[:3])
    (walker,) = [hit["person"] for hit in hits if hit["person"]["video"]]
    assert walker["track"]["views"] == 4
    assert walker["clip"] == f"/api/v1/people/{walker['id']}/clip"
    lines = {line["camera"]: line["sightings"] for line in answer["timeline"]}
    (seen,) = lines["door"]
    assert seen["person"] == walker["id"]
    assert seen["until"] - seen["since"] == pytest.approx(3.0, abs=0.2)
    assert [one["since"] for one in lines["gate"]] == sorted(one["since"] for one in lines["gate"])
    (entry,) = AuditLog(store).entries()
    assert (entry.who, entry.action) == ("local", "search")
    assert entry.details["examples"] == [
        {"picture_sha256": query["sha256"], "box": [20, 60, 56, 150]}
    ]
    assert entry.details["hits"] == 4
    assert entry.details["shown"] == [int(hit["person"]["id"]) for hit in hits]


def test_several_examples_people_and_unlike(client: TestClient, png: Callable[..., bytes]) -> None:
    ids = [send(client, png({20: color})).json()["id"] for color in (RED, BLUE)]
    both = [{"query": one, "box": [20, 60, 56, 150]} for one in ids]
    mixed = search(client, examples=both, top=1)["hits"][0]
    assert mixed["similarity"] < 0.99  # between red and blue there is nobody
    red = search(client, examples=both[:1])["hits"]
    again = search(client, people=[red[0]["person"]["id"]])
    assert red[0]["person"]["id"] not in [hit["person"]["id"] for hit in again["hits"]]
    green = next(h for h in red if h["similarity"] < 0.5)["person"]["id"]
    away = search(client, people=[red[0]["person"]["id"]], unlike=[green])
    assert green not in [hit["person"]["id"] for hit in away["hits"]]


def test_filters(client: TestClient, png: Callable[..., bytes]) -> None:
    query = send(client, png({20: RED})).json()
    example = [{"query": query["id"], "box": query["people"][0]["box"]}]

    def cameras(**filters: object) -> set[str]:
        hits = search(client, examples=example, filters=filters)["hits"]
        return {hit["person"]["camera"] for hit in hits}

    assert cameras(cameras=["gate"]) == {"gate"}
    assert cameras(cameras=[HOSTILE, "door"]) == {HOSTILE, "door"}
    assert cameras(min_height=80) == {"gate", "door"}
    assert cameras(min_score=0.95) == set()
    times = search(client, examples=example)["timeline"]
    noon = min(one["since"] for line in times for one in line["sightings"])
    assert cameras(since=noon, until=noon + 60) == {"gate"}
    assert cameras(since=noon + 1700) == {HOSTILE, "door"}
    assert cameras(sources=["/nowhere"]) == set()
    assert cameras(cameras=["' OR 1=1; DROP TABLE people; --"]) == set()
    assert cameras(cameras=["gate"]) == {"gate"}
    everywhere = {"gate", "door", HOSTILE}
    assert cameras() == cameras(cameras=None, sources=None) == everywhere


@pytest.mark.parametrize("name", ["cameras", "sources"])
def test_an_empty_list_selects_nobody_and_says_so(client: TestClient, name: str) -> None:
    answer = search(client, people=[1], filters={name: []})
    assert (answer["hits"], answer["timeline"]) == ([], [])
    assert answer["reason"] == f"the filter '{name}' is an empty list, which selects nobody"
    assert search(client, people=[1])["reason"] == ""
    assert (
        search(client, people=[1], filters={name: ["x"]})["reason"] == "nobody passes the filters"
    )


def test_a_query_picture_is_forgotten_on_request(
    client: TestClient, png: Callable[..., bytes]
) -> None:
    query = send(client, png({20: RED})).json()["id"]
    assert client.delete(f"/api/v1/queries/{query}").status_code == 204
    assert client.delete(f"/api/v1/queries/{query}").status_code == 404
    example = {"query": query, "box": [20, 60, 56, 150]}
    gone = client.post("/api/v1/search", json={"examples": [example]})
    assert gone.status_code == 404
    assert "send it again" in gone.json()["detail"]


def test_nothing_of_a_query_is_written(
    client: TestClient,
    png: Callable[..., bytes],
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tempfile

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(tempfile, "_get_candidate_names", refused)
    before = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1200, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(noise).save(written, "PNG")
    assert len(written.getvalue()) > 2**22
    assert send(client, written.getvalue()).status_code == 201
    form = {"picture": ("a.png", written.getvalue(), "image/png")}
    assert client.post("/api/v1/queries", files=form).status_code == 201
    assert send(client, png({20: GREEN})).status_code == 201
    after = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_reports(client: TestClient, png: Callable[..., bytes], store: Path) -> None:
    query = send(client, png({20: RED})).json()
    example = [{"query": query["id"], "box": query["people"][0]["box"]}]
    answer = search(client, examples=example, top=5)
    first, second = (hit["person"]["id"] for hit in answer["hits"][:2])
    address = f"/api/v1/results/{answer['result']}/report"
    made = client.post(address, json={"title": "<b>x</b>", "right": [first], "wrong": [second]})
    assert made.headers["content-type"] == "text/html; charset=utf-8"
    assert "attachment" in made.headers["content-disposition"]
    assert made.text.count("data:image/jpeg;base64,") == 5
    assert "&lt;b&gt;x&lt;/b&gt;" in made.text
    assert HOSTILE not in made.text
    assert "http:" not in made.text
    table = client.post(address, json={"format": "csv", "right": [first]})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["person"] for row in rows] == [h["person"]["id"] for h in answer["hits"]]
    assert [row["mark"] for row in rows] == ["right", "", "", "", ""]
    assert [entry.action for entry in AuditLog(store).entries()] == ["search", "report", "report"]
    assert client.post("/api/v1/results/notthere1/report", json={}).status_code == 404


def test_what_cannot_be_searched_by(client: TestClient, png: Callable[..., bytes]) -> None:
    query = send(client, png({20: RED})).json()["id"]
    cases: list[tuple[int, dict[str, object], str]] = [
        (422, {}, "no person is given"),
        (404, {"people": [999]}, "there is no person 999"),
        (404, {"people": [1], "unlike": [998]}, "there is no person 998"),
        (422, {"people": [2**70]}, "people"),
        (422, {"people": ["1; DROP TABLE people"]}, "people"),
        (422, {"people": [1], "top": 0}, "top"),
        (422, {"people": [1], "top": 10**9}, "top"),
        (422, {"people": [1], "path": "/etc/passwd"}, "path"),
        (422, {"people": [1], "filters": {"names": ["../x"]}}, "names"),
        (422, {"people": [1], "unlike": [1] * 300}, "unlike"),
        (404, {"examples": [{"query": "a" * 24, "box": [1, 1, 9, 9]}]}, "send it again"),
        (422, {"examples": [{"query": "../../x", "box": [1, 1, 9, 9]}]}, "query"),
    ]
    boxes = [[400, 60, 500, 150], [-9, -9, -1, -1], [50, 60, 20, 150], [20, 60, 20, 60]]
    for box in boxes:
        cases.append((422, {"examples": [{"query": query, "box": box}]}, "lies outside"))
    for box in ([1, 2, 3], [1, 2, 3, "4"], [True, 1, 2, 3], None):
        cases.append((422, {"examples": [{"query": query, "box": box}]}, "box"))
    for status, body, expected in cases:
        answer = client.post("/api/v1/search", json=body)
        assert answer.status_code == status, body
        assert expected in answer.json()["detail"], body
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        text = f'{{"examples": [{{"query": "{query}", "box": [{number}, 1, 20, 20]}}]}}'
        headers = {"content-type": "application/json"}
        answer = client.post("/api/v1/search", content=text, headers=headers)
        assert answer.status_code == 422, number
    half = r'{"people": [1], "filters": {"cameras": ["\ud800"]}}'
    headers = {"content-type": "application/json"}
    answer = client.post("/api/v1/search", content=half, headers=headers)
    assert answer.status_code == 422 or answer.json()["hits"] == []


def test_an_example_from_a_track_takes_its_other_views_along(client: TestClient) -> None:
    everyone = search(client, people=[1], top=50)["hits"]
    (walker,) = (hit["person"] for hit in everyone if hit["person"]["track"])
    assert walker["track"]["views"] > 1
    for body in ({"people": [walker["id"]]}, {"people": [1], "unlike": [walker["id"]]}):
        hits = search(client, **body, top=50)["hits"]
        assert hits
        assert not [hit for hit in hits if hit["person"]["track"]]
