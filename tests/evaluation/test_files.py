"""Saved detections come back as they were, and damaged files are named."""

from pathlib import Path

import numpy as np
import pytest

from personsearch.errors import EvaluationError
from personsearch.evaluation.files import SavedDetections, load_detections, save_detections
from personsearch.types import Detections


def _found() -> dict[str, Detections]:
    rng = np.random.default_rng(0)
    found = {}
    for name, count in (("a.jpg", 3), ("empty.jpg", 0), ("ü/b.jpg", 2)):
        corners = rng.random((count, 2)) * 50
        boxes = np.concatenate([corners, corners + 10], axis=1)
        found[name] = Detections(boxes, rng.random(count), rng.normal(size=(count, 4)))
    return found


@pytest.mark.parametrize("weighted", [True, False, None])
def test_round_trip_is_exact(tmp_path: Path, weighted: bool | None) -> None:
    found = _found()
    queries = {"all": np.eye(4, dtype=np.float32)}
    save_detections(tmp_path / "d.npz", SavedDetections(found, queries, weighted))
    saved = load_detections(tmp_path / "d.npz")
    again = saved.found
    assert saved.confidence_weighted is weighted
    assert list(again) == list(found)
    for name, detections in found.items():
        np.testing.assert_array_equal(again[name].boxes, detections.boxes)
        np.testing.assert_array_equal(again[name].scores, detections.scores)
        assert len(again[name]) == len(detections)
        if len(detections):
            np.testing.assert_array_equal(again[name].embeddings, detections.embeddings)
    np.testing.assert_array_equal(saved.queries["all"], queries["all"])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_metric_is_kept(tmp_path: Path, metric: str) -> None:
    save_detections(tmp_path / "d.npz", SavedDetections(_found(), {}, metric=metric))
    assert load_detections(tmp_path / "d.npz").metric == metric


def test_an_unknown_metric_is_an_error(tmp_path: Path) -> None:
    save_detections(tmp_path / "d.npz", SavedDetections(_found(), {}, metric="manhattan"))
    with pytest.raises(EvaluationError, match="metric is 'manhattan', expected one of 'cosine'"):
        load_detections(tmp_path / "d.npz")


def test_no_detections_at_all(tmp_path: Path) -> None:
    save_detections(tmp_path / "d.npz", SavedDetections({}, {}))
    saved = load_detections(tmp_path / "d.npz")
    assert (saved.found, saved.queries, saved.confidence_weighted) == ({}, {}, None)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"not an \.npz of detections"):
        load_detections(path)


def test_damage_inside_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    save_detections(path, SavedDetections(_found(), {}))
    whole = path.read_bytes()
    begin = whole.index(b"embeddings.npy") + len("embeddings.npy") + 24
    directory = whole.index(b"PK\x01\x02")
    # zlib.error; NotImplementedError, an unknown compression; RuntimeError, encrypted.
    for at, bytes_ in ((begin, b"\xff" * 8), (directory + 10, b"\x63"), (directory + 8, b"\x01")):
        path.write_bytes(whole[:at] + bytes_ + whole[at + len(bytes_) :])
        with pytest.raises(EvaluationError, match=r"not an \.npz of detections"):
            load_detections(path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("names", np.zeros(1)),
        ("counts", np.array(["one"])),
        ("counts", np.array([-1])),
        ("counts", np.array(1)),
        ("boxes", np.zeros((1, 4), complex)),
        ("embeddings", np.zeros(1)),
    ],
)
def test_parts_of_other_kinds(tmp_path: Path, part: str, value: np.ndarray) -> None:
    parts = {
        "names": np.array(["a"]),
        "counts": np.array([1]),
        "boxes": np.array([[0.0, 0.0, 1.0, 1.0]]),
        "scores": np.ones(1),
        "embeddings": np.ones((1, 3)),
    }
    np.savez(tmp_path / "d.npz", **parts | {part: value})
    with pytest.raises(EvaluationError, match=rf"{part} are|a count is -1"):
        load_detections(tmp_path / "d.npz")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no such file"):
        load_detections(tmp_path / "d.npz")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    names = np.array([{"any": "object"}], dtype=object)
    np.savez(tmp_path / "d.npz", names=names)
    with pytest.raises(EvaluationError, match="allow_pickle"):
        load_detections(tmp_path / "d.npz")


def test_a_weighting_that_is_no_bool(tmp_path: Path) -> None:
    save_detections(tmp_path / "d.npz", SavedDetections({}, {}))
    with np.load(tmp_path / "d.npz") as arrays:
        np.savez(tmp_path / "e.npz", confidence_weighted=np.array([1.0]), **arrays)
    with pytest.raises(EvaluationError, match=r"is float64 of shape \(1,\), expected one bool"):
        load_detections(tmp_path / "e.npz")


def test_missing_part_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", names=np.array(["a"]), counts=np.array([0]))
    with pytest.raises(EvaluationError, match="lacks boxes, scores, embeddings"):
        load_detections(tmp_path / "d.npz")


def test_parts_that_disagree_are_counted(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "d.npz",
        names=np.array(["a"]),
        counts=np.array([2]),
        boxes=np.zeros((1, 4)),
        scores=np.zeros(2),
        embeddings=np.zeros((2, 3)),
    )
    with pytest.raises(EvaluationError, match="1 boxes, 2 scores, 2 embeddings"):
        load_detections(tmp_path / "d.npz")


def test_a_name_twice(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "d.npz",
        names=np.array(["a", "a"]),
        counts=np.array([0, 0]),
        boxes=np.zeros((0, 4)),
        scores=np.zeros(0),
        embeddings=np.zeros((0, 3)),
    )
    with pytest.raises(EvaluationError, match="occurs twice"):
        load_detections(tmp_path / "d.npz")
