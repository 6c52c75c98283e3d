"""What is new is taken once it is whole; people of files that are surely gone go."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from blocks import GREEN, RED, Blocks, paint

from personsearch.indexing.pipeline import index_media
from personsearch.indexing.watching import Scan, prune, watch
from personsearch.indexing.writers import StoreWriter
from personsearch.media.files import find_media
from personsearch.store import ModelIdentity, Store, open_store
from personsearch.store.audit import AuditLog

MODEL = ModelIdentity("blocks", "c" * 64, 3)


def names(scan: Scan) -> list[str]:
    return [one.name for one in scan.media]


def test_a_file_is_taken_once_it_has_stopped_growing(tmp_path: Path) -> None:
    paint(tmp_path / "photos" / "a.png", RED)
    (tmp_path / "photos" / "b.gif").write_bytes(b"GIF89a")
    watched = watch([tmp_path / "photos"], find_media, interval=0.0)
    first = next(watched)
    assert names(first) == []
    assert [one.path.name for one in first.skipped] == ["b.gif"]
    assert names(next(watched)) == ["a.png"]
    assert next(watched) == Scan([], [], False)
    # Half of a photo is there at one look, more at the next, all at the one after.
    whole = paint(tmp_path / "whole.png", RED, GREEN).read_bytes()
    growing = tmp_path / "photos" / "deep" / "c.png"
    growing.parent.mkdir()
    for end in (len(whole) // 2, len(whole) - 1, len(whole)):
        growing.write_bytes(whole[:end])
        assert names(next(watched)) == []
    assert names(next(watched)) == ["deep/c.png"]
    # What has changed is taken again.
    paint(tmp_path / "photos" / "a.png", GREEN)
    os.utime(tmp_path / "photos" / "a.png", ns=(1, 1))
    assert names(next(watched)) == []
    assert names(next(watched)) == ["a.png"]
    growing.unlink()
    assert next(watched) == Scan([], [], True)
    assert next(watched).fewer is False


def test_a_drive_that_is_taken_out_hides_nothing_else(tmp_path: Path) -> None:
    paint(tmp_path / "here" / "a.png", RED)
    paint(tmp_path / "drive" / "b.png", RED)
    watched = watch([tmp_path / "drive", tmp_path / "here"], find_media, interval=0.0)
    next(watched)
    assert names(next(watched)) == ["b.png", "a.png"]
    shutil.rmtree(tmp_path / "drive")
    paint(tmp_path / "here" / "c.png", RED)
    next(watched)
    assert names(next(watched)) == ["c.png"]
    # Back, and unchanged as far as is known from its files' times.
    paint(tmp_path / "drive" / "b.png", GREEN)
    next(watched)
    assert names(next(watched)) == ["b.png"]


def test_what_comes_back_as_it_was_is_taken_again(tmp_path: Path) -> None:
    photo = paint(tmp_path / "photos" / "a.png", RED)
    (tmp_path / "photos" / "b.gif").write_bytes(b"GIF89a")
    watched = watch([tmp_path / "photos"], find_media, interval=0.0)
    next(watched)
    assert names(next(watched)) == ["a.png"]
    for name in ("a.png", "b.gif"):
        (tmp_path / "photos" / name).rename(tmp_path / name)
    assert next(watched) == Scan([], [], True)  # a run that prunes erases its people
    for name in ("a.png", "b.gif"):
        (tmp_path / name).rename(tmp_path / "photos" / name)
    assert [one.path.name for one in next(watched).skipped] == ["b.gif"]
    assert names(next(watched)) == [photo.name]
    assert next(watched) == Scan([], [], False)


def test_it_pauses_between_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "photos" / "a.png", RED)
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    watched = watch([tmp_path / "photos"], find_media, interval=7.0)
    assert names(next(watched)) == []
    assert pauses == []
    assert names(next(watched)) == ["a.png"]
    assert pauses == [7.0]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a", "deep/b", "c"):
        paint(tmp_path / "photos" / f"{name}.png", RED, GREEN)
    return tmp_path / "photos"


def filled(store: Store, photos: Path) -> Store:
    index_media(Blocks(), StoreWriter(store), find_media([photos])[0])
    return store


def test_people_of_files_that_are_gone(tmp_path: Path, photos: Path) -> None:
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        filled(store, photos)
        assert prune(store, [photos]) == 0
        ids, vectors = store.embeddings()
        (photos / "a.png").rename(tmp_path / "elsewhere.png")
        shutil.rmtree(photos / "deep")
        assert prune(store, [photos]) == 4
        assert list(store.known_files(str(photos))) == ["c.png"]
        wish, done = AuditLog(store.folder).entries()
        assert (wish.action, done.action, done.details["views"]) == ("prune", "pruned", 4)
        assert wish.details == {"source": str(photos), "pictures": ["a.png", "deep/b.png"]}
        assert store.counts()["people"] == 2
        # It comes back, and so do its people.
        (tmp_path / "elsewhere.png").rename(photos / "a.png")
        assert index_media(Blocks(), StoreWriter(store), find_media([photos])[0]).people == 2
        assert len(ids) == len(vectors) == 6
        assert np.array_equal(store.embeddings()[1], vectors[:4])


def test_what_is_in_doubt_is_not_erased(tmp_path: Path, photos: Path) -> None:
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        filled(store, photos)
        store.erase_files(str(photos), ["c.png"])
        (photos / "c.png").unlink()
        assert prune(store, [photos]) == 0
        # That it was erased stays known.
        assert store.known_files(str(photos))["c.png"].state == "erased"
        photos.rename(tmp_path / "away")
        assert prune(store, [photos, tmp_path / "other"]) == 0
        photos.mkdir()  # the mount point of a drive that is not there
        assert prune(store, [photos]) == 0
        assert store.counts()["people"] == 4
