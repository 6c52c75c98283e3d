"""A file is replaced whole, or stays as it was; nothing is left beside it."""

import os
from pathlib import Path

import pytest

from personsearch.durable import replace_file, sync


def test_replaced_whole_with_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    replace_file(path, "first ä\n")
    replace_file(path, "second\n")
    assert path.read_text(encoding="utf-8") == "second\n"
    assert list(tmp_path.iterdir()) == [path]
    sync(path)
    sync(tmp_path)


def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    replace_file(path, "first\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, "second\n")
    assert path.read_text(encoding="utf-8") == "first\n"
    assert list(tmp_path.iterdir()) == [path]


def test_only_its_owner_reads_a_secret(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        replace_file(tmp_path / "plain", "x")
        replace_file(tmp_path / "secret", "x", mode=0o600)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"plain": 0o644, "secret": 0o600}
