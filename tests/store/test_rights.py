"""Who may read a store: its owner, and nobody else; and stores that nobody can write to."""

import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from few_people import MODEL, STAMP, found

from personsearch.engines.sqlite import StoreEngine
from personsearch.errors import StoreError
from personsearch.store import DATABASE, Filters, open_store, rights
from personsearch.store.rights import private_folder, read_only


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def _made(folder: Path) -> Path:
    with open_store(folder, model=MODEL, write=True) as store:
        store.add(store.begin_file("/photos", "a.jpg", STAMP), [found(3)], finished=True)
    return folder


def _modes(folder: Path) -> dict[str, int]:
    paths = [folder, *folder.rglob("*")]
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}


def test_a_new_store_is_its_owners_alone(tmp_path: Path) -> None:
    with open_store(_made(tmp_path / "store"), write=True) as store:
        store.set_retention(30.0)
        modes = _modes(tmp_path / "store")  # with SQLite's log, as it is open
    assert {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"} <= set(modes)
    assert {name for name, mode in modes.items() if mode & 0o077} == set()


def test_an_older_store_is_closed_when_it_is_written_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _made(tmp_path / "store")
    (folder / "index").mkdir()
    (folder / "index" / "0_9.rows").write_bytes(b"")
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with open_store(folder):
        pass
    assert _modes(folder)[DATABASE] == 0o644
    assert not caplog.records
    for _ in range(2):
        with open_store(folder, write=True):
            pass
    assert {name for name, mode in _modes(folder).items() if mode & 0o077} == set()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "only its owner can" in caplog.text


def test_what_else_lies_in_a_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"")
    _made(folder)
    modes = _modes(folder)
    assert (modes["shared"], modes["holiday.jpg"], modes[DATABASE]) == (0o755, 0o644, 0o600)


def test_folders_are_made_and_closed_but_links_are_not_followed(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "state")
    assert _modes(tmp_path / "a")["state"] == 0o700
    other = tmp_path / "other"
    other.write_text("")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "audit.jsonl").symlink_to(other)
    private_folder(tmp_path / "b")
    assert stat.S_IMODE(other.stat().st_mode) == 0o644
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    (tmp_path / "b").chmod(0o755)
    private_folder(tmp_path / "linked")
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o700


def test_read_only_media_can_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _made(tmp_path / "media")
    monkeypatch.setattr("personsearch.store.connection.read_only", lambda _: True)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    with closing(StoreEngine(folder)) as engine:
        vectors = engine.vectors([1, 2, 3]).astype(np.float32)
        rankings = engine.search(vectors, top=1)
        assert [ranking.ids.tolist() for ranking in rankings] == [[1], [2], [3]]
        names = sorted(path.name for path in folder.rglob("*"))
        assert not any(name.endswith(("-wal", "-shm")) for name in names)
        assert engine.count(Filters(sources=["/photos"])) == 3
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


def test_read_only_media_with_changes_in_the_log_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _made(tmp_path / "store")
    with open_store(folder, write=True) as store:
        store.begin_file("/photos", "b.jpg", STAMP)
        shutil.copytree(folder, tmp_path / "media")
    monkeypatch.setattr("personsearch.store.connection.read_only", lambda _: True)
    with (
        pytest.raises(StoreError, match="copy the folder to a disk that can be written to"),
        open_store(tmp_path / "media"),
    ):
        pass


def test_which_folders_nobody_can_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not read_only(tmp_path)
    assert not read_only(tmp_path / "missing")
    monkeypatch.setattr(rights.os, "access", lambda *_: False)  # the tests may run as root
    assert not read_only(tmp_path)  # others may write to it
    tmp_path.chmod(0o555)
    assert read_only(tmp_path)
    tmp_path.chmod(0o700)


def test_a_relative_store_with_the_name_of_a_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _made(Path("file:x"))
    assert (tmp_path / "file:x" / DATABASE).is_file()
    with open_store("file:x") as store:
        assert store.count() == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file:x"]
