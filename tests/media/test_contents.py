"""The content of a file: its SHA-256, of regular files alone."""

import hashlib
import os
from pathlib import Path

import pytest

from personsearch.errors import PictureError
from personsearch.media.contents import content_of


def test_equal_files_have_equal_contents(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(data)
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b") == hashlib.sha256(data).digest()
    (tmp_path / "b").write_bytes(data[:-1])
    assert content_of(tmp_path / "a") != content_of(tmp_path / "b")


def test_other_things_than_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, expected in (
        ("fifo", "not a regular file"),
        ("none", "no such picture"),
        ("", "is a folder"),
    ):
        with pytest.raises(PictureError, match=expected):
            content_of(tmp_path / name)
