"""Keys and audit log are kept in the store, or in a folder of this machine for a server."""

from pathlib import Path

import pytest

from personsearch.engines import state
from personsearch.engines.state import VARIABLE, state_folder
from personsearch.errors import StoreError


def test_a_store_in_a_folder_keeps_its_own() -> None:
    assert state_folder("some/store") == Path("some/store")
    assert state_folder(Path("milvus:x")) == Path("milvus:x")


def test_a_store_on_a_server_has_a_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    assert state_folder("milvus://gate:19530/people") == tmp_path / "named"
    assert (tmp_path / "named").is_dir()
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(state, "user_data_path", lambda name: tmp_path / name)
    one, other = (state_folder(f"milvus://gate:19530/{name}") for name in ("a", "b"))
    assert one != other
    assert one.is_dir()
    assert one.is_relative_to(tmp_path)
    with pytest.raises(StoreError, match="ftp"):
        state_folder("ftp://x")


def test_a_store_on_read_only_media_has_a_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(state, "read_only", lambda _: True)
    monkeypatch.setattr(state, "user_data_path", lambda name: tmp_path / name)
    one = state_folder(tmp_path / "media")
    assert one.is_relative_to(tmp_path / "personsearch")
    assert one.stat().st_mode & 0o077 == 0
    monkeypatch.chdir(tmp_path)
    assert state_folder("media") == one
