"""The content of a file: its SHA-256, of regular files alone."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from personsearch.errors import PictureError
from personsearch.media.contents import content_of
from personsearch.media.damage import UnreadNowError


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


def test_holes_are_not_read_for_hours(tmp_path: Path) -> None:
    with (tmp_path / "a.mp4").open("wb") as file:
        file.truncate(8 << 40)
    with pytest.raises(PictureError, match=r"a\.mp4: is a sparse file, of 0 bytes on the disk"):
        content_of(tmp_path / "a.mp4")


def test_reading_ends_when_its_run_stops(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    stop = threading.Event()
    assert content_of(tmp_path / "a", stop=stop) == hashlib.sha256(b"abc").digest()
    stop.set()
    with pytest.raises(UnreadNowError, match="was left because this run stops"):
        content_of(tmp_path / "a", stop=stop)
