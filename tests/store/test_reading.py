"""What was written is read, and damage to what is read is reported."""

from pathlib import Path

import numpy as np
import pytest
from few_people import DIM, MODEL, STAMP, found, vectors

from personsearch.store import (
    Filters,
    open_store,
)


def test_what_is_written_is_read(folder: Path) -> None:
    with open_store(folder, model=MODEL) as store:
        assert store.model == MODEL
        counts = {"sources": 2, "files": 3, "pictures": 5, "people": 9, "tracks": 0}
        assert store.counts() == counts | {"unreadable": 0}
        ids, matrix = store.embeddings()
        assert ids.tolist() == list(range(1, 10))
        assert matrix.dtype == np.float16
        expected = np.concatenate([vectors(2, 0), vectors(2, 1), vectors(2, 12), vectors(3, 13)])
        assert np.array_equal(matrix, expected.astype(np.float16))
        last, first = store.people([9, 1])
        assert (first.path, first.camera, first.time) == (Path("/photos/a.jpg"), "phone", 100.0)
        assert (last.path, last.frame, last.size) == (Path("/door.mp4"), 15, (640, 480))
        np.testing.assert_allclose(first.box, found(2).boxes[0])
        assert first.score == pytest.approx(found(2).scores[0])
        assert store.thumbnail(2) == b"JPEG" + bytes([0, 1]) * 30
        assert store.thumbnail(99) == b""
        assert store.cameras() == {"door": 5, "phone": 4}
        known = store.known_files("/door.mp4")[""]
        assert (known.stamp, known.state, known.frames) == (STAMP, "whole", 3)
        assert store.frames(known.id) == {0, 10, 15}
        assert store.people_in(Path("/photos/deep/b.jpg")) == [3, 4]
        assert store.people_in(Path("/door.mp4")) == [5, 6, 7, 8, 9]
        assert store.people_in(Path("/photos/none.jpg")) == []
        assert store.damage() == ""


def test_rows_are_what_filters_see(folder: Path) -> None:
    with open_store(folder) as store:
        rows = store.rows(after=2, last=7, limit=4)
        assert rows.ids.tolist() == [3, 4, 5, 6]
        people = store.people([3, 4, 5, 6])
        assert rows.scores.tolist() == [person.score for person in people]
        assert rows.times.tolist() == [101.0, 101.0, 202.0, 202.0]
        heights = [float(person.box[3] - person.box[1]) for person in people]
        np.testing.assert_allclose(rows.heights, heights, rtol=1e-5)
        np.testing.assert_array_equal(rows.vectors, store.vectors([3, 4, 5, 6]))
        phone = store.matching_files(Filters(cameras=("phone",), min_score=2.0))
        assert phone is not None
        assert np.isin(rows.files, phone).tolist() == [True, True, False, False]
        assert store.matching_files(Filters(min_score=0.3)) is None
        assert store.rows(after=9).vectors.shape == (0, DIM)
        assert np.isnan(store.rows().times).sum() == 0
