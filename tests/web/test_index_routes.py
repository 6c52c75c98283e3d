"""A picture that is sent for keeping: found again, once, by its key, and gone when it is erased."""

from collections.abc import Callable
from pathlib import Path

import pytest
from crowd import BLUE, GREEN, RED, open_crowd, save
from damaged import ODD_ENTRIES, damaged_avif, odd_photo
from starlette.testclient import TestClient

from personsearch.store import Store, open_store
from personsearch.web.app import create_app
from personsearch.web.keys import Keys


def send(client: TestClient, data: bytes, **asked: object) -> tuple[int, dict[str, object]]:
    answer = client.post("/api/v1/pictures", content=data, params=asked)
    return answer.status_code, answer.json()


def test_who_is_in_it_is_found_again(
    client: TestClient, store: Path, png: Callable[..., bytes]
) -> None:
    about = {"name": "a.png", "camera": "pier", "taken": 1_700_000_000}
    status, told = send(client, png({20: RED, 120: BLUE}), **about)
    assert (status, told["skipped"]) == (201, False)
    ids = told["people"]
    assert isinstance(ids, list)
    assert len(ids) == 2
    found = client.post(
        "/api/v1/search", json={"people": [1], "filters": {"sources": ["api:local"]}}
    ).json()["hits"]
    assert {hit["person"]["id"] for hit in found} == set(ids)
    person = found[0]["person"]
    assert (person["camera"], person["time"], person["name"]) == ("pier", 1.7e9, "a.png")
    assert client.get(person["thumbnail"]).status_code == 200
    # The picture is not kept, and nothing of that name is looked for on the disk.
    shown = client.get(person["picture"])
    assert (shown.status_code, "no file" in shown.json()["detail"]) == (404, True)
    told_of = client.get("/api/v1/store").json()
    assert {"name": "api:local", "people": 2} in told_of["sources"]
    with open_store(store) as opened:
        assert opened.damage() == ""


def test_once_and_replaced(client: TestClient, store: Path, png: Callable[..., bytes]) -> None:
    first = send(client, png({20: RED}), name="a.png")[1]
    assert send(client, png({20: RED}), name="a.png") == (201, first | {"skipped": True})
    other = send(client, png({20: RED, 120: GREEN}), name="a.png")[1]
    assert not other["skipped"]
    assert not set(other["people"]) & set(first["people"])  # type: ignore[call-overload]
    with open_store(store) as opened:
        assert opened.count() == 10 + 2
        opened.people([int(one) for one in other["people"]])  # type: ignore[attr-defined]


def test_what_was_erased_stays_out(
    client: TestClient, store: Path, png: Callable[..., bytes]
) -> None:
    send(client, png({20: RED}), name="a.png")
    with open_store(store, write=True) as opened:
        opened.erase_files("api:local", ["a.png"])
    status, told = send(client, png({20: RED}), name="a.png")
    assert (status, "was erased" in str(told["detail"])) == (409, True)
    # Nor under another name.
    status, told = send(client, png({20: RED}), name="b.png")
    assert (status, "people in this picture were erased" in str(told["detail"])) == (409, True)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\\b", "a\nb", "", "x" * 256])
def test_a_name_that_is_a_path(client: TestClient, png: Callable[..., bytes], name: str) -> None:
    status, told = send(client, png({20: RED}), name=name)
    assert (status, "name" in str(told["detail"])) == (422, True)


def test_files_of_the_disk_are_not_reached(
    client: TestClient, png: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "api:local" / "a.png", {20: RED})
    (ids,) = (send(client, png({20: RED}), name="a.png")[1]["people"],)
    assert isinstance(ids, list)
    assert client.get(f"/api/v1/people/{ids[0]}/picture").status_code == 404


def test_what_is_no_picture(client: TestClient, store: Path) -> None:
    for data in (b"", b"text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", damaged_avif()):
        assert send(client, data, name="a.png")[0] == 422
    with open_store(store) as opened:
        assert opened.counts()["people"] == 10
        assert "api:local" not in {place for _, _, place in opened.file_sources()}


def test_an_odd_exif_block_is_no_failure(client: TestClient) -> None:
    for entry in ODD_ENTRIES.values():
        status, told = send(client, odd_photo("JPEG", entry), name="a.jpg")
        assert (status, told["skipped"]) == (201, False)


def test_it_needs_the_scope(store: Path, png: Callable[..., bytes]) -> None:
    keys = Keys(store)
    seek, bring = keys.make("seek", ["search"]), keys.make("gate-camera", ["index"])
    with (
        open_crowd(store) as archive,
        TestClient(create_app(archive), base_url="http://localhost") as client,
    ):
        client.headers["authorization"] = f"Bearer {seek}"
        assert send(client, png({20: RED}), name="a.png")[0] == 403
        client.headers["authorization"] = f"Bearer {bring}"
        assert send(client, png({20: RED}), name="a.png")[0] == 201
        assert client.post("/api/v1/search", json={"people": [1]}).status_code == 403
    with open_store(store) as opened:
        assert [place for _, _, place in opened.file_sources()].count("api:gate-camera") == 1


def test_while_another_process_writes(
    client: TestClient,
    store: Path,
    png: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Store, "patience", 0.1)
    with open_store(store, write=True) as opened:
        assert send(client, png({20: RED}), name="b.png")[0] == 201  # between two transactions
        with opened.writing():
            status, told = send(client, png({20: RED}), name="a.png")
    assert (status, "is writing to this store" in str(told["detail"])) == (503, True)
