"""What is wrong with a store is found, each by its own line."""

import io
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from personsearch.store import (
    DATABASE,
    FileStamp,
    FoundPeople,
    ModelIdentity,
    open_store,
)
from personsearch.store.check import check_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two people in a photo, the second without a thumbnail; and a track in a video."""
    written = io.BytesIO()
    Image.new("RGB", (16, 40), "red").save(written, "JPEG")
    boxes = np.array([[0, 0, 10, 20], [5, 5, 10, 20]], np.float32)
    with open_store(tmp_path, model=ModelIdentity("m", "a", 4), write=True) as store:
        for name, frame in (("a.jpg", None), ("b.mp4", 0)):
            file = store.begin_file("/photos", name, FileStamp(1, 1))
            thumbnails = [written.getvalue(), b""]
            scores = np.ones(2, np.float32)
            unit = np.eye(2, 4, dtype=np.float32)
            found = FoundPeople((64, 48), boxes, scores, unit, thumbnails, frame=frame)
            store.add(file, [found], finished=True)
        store.execute("INSERT INTO tracks VALUES (1, 2, 0.0, 1.0, 3)")
        store.execute("UPDATE people SET track = 1 WHERE id IN (3, 4)")
    return tmp_path


def check(folder: Path) -> list[str]:
    with open_store(folder) as store:
        return check_store(store)


def test_a_whole_store_is_whole(folder: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    with open_store(folder) as store:
        assert check_store(store, lambda *step: steps.append(step)) == []
    assert steps == [("checking", 4, 4)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("UPDATE embeddings SET vector = x'0000' WHERE person = 2", "embedding of 2 bytes"),
        ("UPDATE embeddings SET vector = zeroblob(8) WHERE person = 2", "person 2: .* length 0,"),
        ("UPDATE embeddings SET vector = x'007E000000000000'", "person 1: .* length nan"),
        ("UPDATE thumbnails SET jpeg = x'FFD8FF' WHERE person = 1", "person 1: thumbnail cannot"),
        ("UPDATE thumbnails SET jpeg = substr(jpeg, 1, 200)", "person 1: thumbnail cannot"),
        ("DELETE FROM embeddings WHERE person = 2", "1 people without an embedding"),
        ("UPDATE people SET track = 1 WHERE id = 1", "1 people in a track of another file"),
        ("UPDATE people SET track = NULL", "1 tracks without anyone"),
        ("UPDATE files SET state = 'erased' WHERE id = 1", "1 pictures in files that are erased"),
        ("DELETE FROM commits WHERE changes = 4", "1 commits without a token of 16 bytes"),
        ("UPDATE commits SET token = x'00' WHERE changes = 1", "1 commits without a token"),
        ("INSERT INTO commits VALUES (9, randomblob(16))", "1 commits of the future"),
        ("UPDATE keeping SET erasure = NULL", "1 rows that say what is kept"),
        ("UPDATE files SET content = x'00' WHERE id = 1", "1 contents that are no SHA-256"),
        ("INSERT INTO erased VALUES (x'00', 1.0)", "1 contents that are no SHA-256"),
        ("UPDATE sources SET here = 2", "1 sources that are neither"),
        ("UPDATE people SET x2 = 9e999 WHERE id = 1", "1 boxes or scores that are not finite"),
        ("UPDATE people SET picture = 77 WHERE id = 1", "row 1 of people names a row of pictures"),
        ("DELETE FROM files WHERE id = 1", "row 1 of pictures names a row of files"),
    ],
)
def test_each_problem_is_said(folder: Path, change: str, expected: str) -> None:
    with open_store(folder, write=True) as store:
        store.execute("PRAGMA foreign_keys = OFF")
        store.execute(change)
    (first, *_) = check(folder)
    assert re.search(expected, first)


def test_damaged_pages_are_said(folder: Path) -> None:
    connection = sqlite3.connect(folder / DATABASE)
    pages = connection.execute("SELECT rootpage FROM sqlite_master WHERE name != 'model'")
    damaged = {page for (page,) in pages if page}
    connection.close()
    with (folder / DATABASE).open("r+b") as file:
        for page in damaged:
            file.seek((page - 1) * 4096)
            file.write(b"\x55" * 4096)
    (problem,) = check(folder)
    assert "\n" not in problem
    assert "damaged" in problem or "malformed" in problem or "tree" in problem.lower()
