"""Query pictures: read once; the person in them by a box or the highest score."""

import hashlib
from io import BufferedReader
from pathlib import Path

import numpy as np
import pytest
from blocks import GREEN, RED, Blocks, paint

from personsearch.errors import DataError, PictureError
from personsearch.media.opening import open_regular
from personsearch.search.query import QueryPicture, check_box, query_person


def test_a_file_is_read_decoded_and_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paint(tmp_path / "me.png", RED)
    data = path.read_bytes()
    reads: list[Path] = []

    def read(opened: Path) -> BufferedReader:
        reads.append(opened)
        return open_regular(opened)

    monkeypatch.setattr("personsearch.search.query.open_regular", read)
    picture = QueryPicture.read(path)
    path.unlink()
    person = query_person(Blocks(), picture, (0, 0, 10, 20))
    assert reads == [path]
    assert picture.size == (60, 30)
    assert picture.sha256 == hashlib.sha256(data).hexdigest()
    np.testing.assert_allclose(person.embedding, [1, 0, 0], atol=1e-6)
    assert person.path == path


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for name, expected in (
        ("gone.png", "no such picture"),
        (".", "is a folder, expected a picture file"),
        ("text.png", "is not a picture"),
    ):
        with pytest.raises(PictureError, match=expected):
            QueryPicture.read(tmp_path / name)


def test_a_box_has_to_cover_a_pixel() -> None:
    check_box((-5, 0, 1, 20), (60, 30), "me.png")
    for box in ((60, 0, 70, 20), (0, 30, 10, 40), (-9, -9, 0.5, 20), (np.nan, 0, 10, 20)):
        with pytest.raises(DataError, match=r"lies outside of me\.png, which has 60 x 30 pixels"):
            check_box(box, (60, 30), "me.png")


def test_without_a_box_the_highest_score_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    person = query_person(Blocks(), paint(tmp_path / "me.png", (100, 0, 0), GREEN))
    np.testing.assert_array_equal(person.box, [20, 0, 30, 20])
    assert person.score == 1.0
    assert person.others is not None
    np.testing.assert_array_equal(person.others.boxes, [[0, 0, 10, 20]])
    with pytest.raises(DataError, match="nobody was found in it"):
        query_person(Blocks(), paint(tmp_path / "empty.png"))
