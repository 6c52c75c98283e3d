"""What an import says about files opens none of them, until the operator indexes the place."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crowd import GREEN, RED, Crowd, open_crowd, save
from starlette.testclient import TestClient

from personsearch.indexing.pipeline import index_media
from personsearch.indexing.writers import StoreWriter
from personsearch.media.files import find_media
from personsearch.store import open_store
from personsearch.store.exchange import MANIFEST, export_store, import_store
from personsearch.store.merge import merge_stores
from personsearch.web.app import create_app


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture of this machine that was never indexed."""
    return save(tmp_path / "private" / "secret.png", {20: RED, 120: GREEN})


def _forged(store: Path, folder: Path, source: str, names: Callable[[str], str]) -> Path:
    """An export of a store of photos that says they lie elsewhere."""
    export_store(store, folder)
    table = folder / "files.jsonl"
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    photos = [row for row in rows if row["name"].endswith(".png")]
    for row in rows:
        row["source"] = source
    photos[0]["name"] = names(photos[0]["name"])
    rows.sort(key=lambda row: row["name"].encode())
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    table.write_text(text, encoding="utf-8")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"]["files.jsonl"] = {
        "bytes": table.stat().st_size,
        "sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
    }
    del manifest["sha256"]
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest | {"sha256": digest}), encoding="utf-8")
    return folder


@pytest.fixture
def photos_of_another(tmp_path: Path) -> Path:
    """A store of somebody else with one photo."""
    photo = save(tmp_path / "theirs" / "a.png", {20: RED, 120: GREEN})
    return _indexed(photo.parent, tmp_path / "their store")


def _indexed(photos: Path, folder: Path) -> Path:
    from crowd import MODEL

    media, _ = find_media([photos])
    with open_store(folder, model=MODEL, write=True) as store:
        index_media(Crowd(), StoreWriter(store), media)
    return folder


def _shown(store: Path) -> Iterator[tuple[str, str, int]]:
    """Source, name and status of the whole picture of everyone in a store."""
    with (
        open_crowd(store) as archive,
        TestClient(create_app(archive), base_url="http://localhost") as client,
    ):
        for batch in archive.engine.iterate():
            for one in batch:
                address = f"/api/v1/people/{one.person.id}"
                assert client.get(f"{address}/thumbnail").status_code == 200
                told = client.get(address).json()
                answer = client.get(f"{address}/picture")
                if answer.status_code != 200:
                    assert "only its thumbnail is kept" in answer.json()["detail"]
                yield told["source"], told["name"], answer.status_code


def test_a_forged_export_shows_no_picture_of_this_machine(
    store: Path, photos_of_another: Path, secret: Path, tmp_path: Path
) -> None:
    before = list(_shown(store))
    assert {status for _, _, status in before} == {200}
    relative = str(secret).removeprefix("/")
    forged = _forged(photos_of_another, tmp_path / "forged", "/", lambda _: relative)
    assert import_store(forged, store).people == 2
    after = list(_shown(store))
    assert after[: len(before)] == before
    assert after[len(before) :] == [("/", relative, 404)] * 2
    # Neither the same again, nor a merge of a store that took it, makes it better.
    import_store(forged, store)
    with open_store(tmp_path / "between", model=_model(store), write=True):
        pass
    import_store(forged, tmp_path / "between")
    merge_stores(tmp_path / "between", store)
    assert list(_shown(store)) == after


def _model(store: Path) -> object:
    with open_store(store) as opened:
        return opened.model


def test_a_merged_store_shows_thumbnails_only(
    store: Path, photos_of_another: Path, tmp_path: Path
) -> None:
    merge_stores(photos_of_another, store)
    theirs = [one for one in _shown(store) if one[0].endswith("theirs")]
    assert [status for *_, status in theirs] == [404, 404]


def test_a_place_that_was_imported_is_indexed_anew(photos_of_another: Path, tmp_path: Path) -> None:
    """The import is not believed: what it says about the files is replaced."""
    source = str(tmp_path / "theirs")
    export_store(photos_of_another, tmp_path / "out")
    import_store(tmp_path / "out", tmp_path / "own")
    assert [status for *_, status in _shown(tmp_path / "own")] == [404, 404]
    with open_store(tmp_path / "own") as store:
        imported = store.people_in(tmp_path / "theirs" / "a.png")
    _indexed(tmp_path / "theirs", tmp_path / "own")
    assert [status for *_, status in _shown(tmp_path / "own")] == [200, 200]
    with open_store(tmp_path / "own") as store:
        now = store.people_in(tmp_path / "theirs" / "a.png")
        assert len(now) == 2
        assert set(now).isdisjoint(imported)
        stamp = store.known_files(source)["a.png"].stamp
    # From now on it is as any other: a second run has nothing to do, an import changes nothing.
    assert stamp.bytes == (tmp_path / "theirs" / "a.png").stat().st_size
    assert import_store(tmp_path / "out", tmp_path / "own").skipped == 1
    assert [status for *_, status in _shown(tmp_path / "own")] == [200, 200]


def test_what_was_erased_stays_erased_in_an_imported_place(
    photos_of_another: Path, tmp_path: Path
) -> None:
    export_store(photos_of_another, tmp_path / "out")
    import_store(tmp_path / "out", tmp_path / "own")
    with open_store(tmp_path / "own", write=True) as store:
        store.erase_files(str(tmp_path / "theirs"))
    save(tmp_path / "theirs" / "b.png", {20: RED})
    _indexed(tmp_path / "theirs", tmp_path / "own")
    assert [name for _, name, _ in _shown(tmp_path / "own")] == ["b.png"]
