"""People over the API: their pictures and clips, and erasing them for good."""

import csv
import io
from pathlib import Path

import av
import pytest
from PIL import Image
from starlette.testclient import TestClient

from personsearch.errors import StoreError
from personsearch.store import open_store
from personsearch.store.audit import LOG, AuditLog


def test_someone_and_their_pictures(client: TestClient) -> None:
    person = client.get("/api/v1/people/1").json()
    assert (person["id"], person["width"], person["height"]) == ("1", 320, 200)
    for name, size in (("thumbnail", None), ("picture", (320, 200)), ("picture?longest=64", None)):
        answer = client.get(f"/api/v1/people/1/{name}")
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as image:
            assert size is None or image.size == size
            assert max(image.size) <= 320


def test_a_clip(client: TestClient) -> None:
    ids = range(1, 40)
    people = [client.get(f"/api/v1/people/{one}") for one in ids]
    walker = next(p.json() for p in people if p.status_code == 200 and p.json()["video"])
    answer = client.get(walker["clip"], params={"seconds": 1})
    assert answer.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(answer.content)) as made:
        assert made.streams.video[0].width == 320
    assert client.get("/api/v1/people/1/clip?seconds=1e9").status_code == 422
    photo = next(p.json() for p in people if p.status_code == 200 and not p.json()["video"])
    assert photo["clip"] is None
    gone = client.get(f"/api/v1/people/{photo['id']}/clip")
    assert (gone.status_code, "is a photo" in gone.json()["detail"]) == (404, True)


def test_a_client_names_no_path(client: TestClient) -> None:
    for name in (
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "0",
        "-1",
        "1e3",
        str(2**80),
        "1;",
        "%00",
    ):
        answer = client.get(f"/api/v1/people/{name}/picture")
        assert answer.status_code in (404, 422), name
    for name in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "//etc/passwd", "nothing.js"):
        assert client.get(f"/static/{name}").status_code == 404, name


def test_a_file_that_is_gone(client: TestClient, store: Path, made_once: Path) -> None:
    name = client.get("/api/v1/people/1").json()["name"]
    path = made_once / "photos" / name
    path.rename(path.with_suffix(".away"))
    try:
        answer = client.get("/api/v1/people/1/picture")
    finally:
        path.with_suffix(".away").rename(path)
    assert answer.status_code == 404
    assert "no such" in answer.json()["detail"]
    assert client.get("/api/v1/people/1/thumbnail").status_code == 200


def test_erasing_takes_the_whole_track_and_is_logged(client: TestClient, store: Path) -> None:
    with open_store(store) as opened:
        people = opened.people(opened.ids_after(0, 100))
        tracked = [one.id for one in people if one.track is not None]
    assert len(tracked) > 1
    found = client.post("/api/v1/search", json={"people": [1]}).json()["result"]
    erased = client.post("/api/v1/erase", json={"people": [tracked[0]]})
    assert erased.json() == {"views": len(tracked)}
    for one in tracked:
        assert client.get(f"/api/v1/people/{one}").status_code == 404
        assert client.get(f"/api/v1/people/{one}/thumbnail").status_code == 404
    # Reports leave them out, and say so.
    address = f"/api/v1/results/{found}/report"
    page = client.post(address, json={})
    assert page.status_code == 200
    assert "<dt>Erased since</dt><dd>1, left out here</dd>" in page.text
    table = client.post(address, json={"format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, len(rows) + 1)]
    gone = [row for row in rows if row["mark"] == "erased"]
    assert len(gone) == 1
    assert set(gone[0].values()) == {gone[0]["rank"], "erased", ""}
    entries = list(AuditLog(store).entries())
    actions = ["search", "erase", "erased", "report", "report"]
    assert [entry.action for entry in entries] == actions
    shown = [one for one in entries[0].details["shown"] if one not in tracked]
    assert entries[4].details["hits"] == shown
    assert entries[1].details == {"people": [tracked[0]]}
    assert entries[2].details == {"people": [tracked[0]], "views": len(tracked)}
    assert client.post("/api/v1/erase", json={"people": [tracked[0]]}).status_code == 404
    assert client.post("/api/v1/erase", json={"people": []}).status_code == 422


def test_nothing_is_done_without_a_line_in_the_log(client: TestClient, store: Path) -> None:
    assert client.post("/api/v1/search", json={"people": [1]}).status_code == 200
    (store / LOG).write_bytes(b"")
    for path in ("/api/v1/search", "/api/v1/erase"):
        answer = client.post(path, json={"people": [1]})
        assert answer.status_code == 503
        assert "its end was changed" in answer.json()["detail"]
    assert client.get("/api/v1/people/1").status_code == 503
    assert not client.get("/api/v1/audit/check").json()["whole"]
    with pytest.raises(StoreError):
        AuditLog(store).append("search", "a", {})
