"""The gallery as flat arrays, by picture."""

import numpy as np
import pytest

from personsearch.errors import EvaluationError
from personsearch.evaluation.gallery import METRICS, PackedGallery, ranges, similarity_block
from personsearch.types import Detections


def _found(scores: list[float], dim: int = 2) -> Detections:
    corners = np.arange(len(scores), dtype=np.float32)[:, None].repeat(2, axis=1)
    boxes = np.concatenate([corners, corners + 5], axis=1)
    return Detections(boxes, scores, np.ones((len(scores), dim)))


def test_ranges_are_joined() -> None:
    assert ranges(np.array([3, 9, 1]), np.array([2, 0, 3])).tolist() == [3, 4, 1, 2, 3]


def test_detections_below_the_threshold_are_left_out() -> None:
    gallery = {"a": _found([0.9, 0.1, 0.5]), "none": _found([0.2]), "b": _found([0.6])}
    packed = PackedGallery(gallery, 0.5, 2)
    assert [len(packed.rows_of(np.array([k]))) for k in range(3)] == [2, 0, 1]
    assert packed.rows_of(np.array([2, 0])).tolist() == [2, 0, 1]


def test_another_length_of_embeddings_names_the_scene() -> None:
    with pytest.raises(EvaluationError, match="'b'"):
        PackedGallery({"a": _found([0.9]), "b": _found([0.9], dim=3)}, 0.5, 2)


def _vectors(count: int, dim: int, seed: int) -> np.ndarray:
    """Rows of length 1e3 that differ by one or so, where a float32 difference of squares fails."""
    rng = np.random.default_rng(seed)
    return (1e3 / np.sqrt(dim) + rng.normal(size=(count, dim)) / dim).astype(np.float32)


def test_euclidean_distances_survive_long_vectors() -> None:
    queries, rows = _vectors(5, 64, 0), _vectors(40, 64, 1)
    gallery = PackedGallery(
        {"a": Detections(np.tile([0, 0, 9, 9], (40, 1)), [1] * 40, rows)}, 0, 64
    )
    block = similarity_block(queries, gallery, False, METRICS["euclidean"])
    differences = queries.astype(np.float64)[:, None] - rows.astype(np.float64)[None]
    np.testing.assert_allclose(block, -(differences**2).sum(axis=2), rtol=1e-6)


def test_a_metric_may_map_queries_and_gallery_differently() -> None:
    """-(q - g)' M (q - g), M symmetric but not positive, as one dot product."""
    middle = np.array([[2.0, 1.0], [1.0, -1.0]])

    class Quadratic:
        def query(self, x: np.ndarray) -> np.ndarray:
            own = np.einsum("nd,de,ne->n", x, middle, x)
            return np.column_stack([2 * x @ middle, -own, np.ones(len(x))])

        def gallery(self, x: np.ndarray) -> np.ndarray:
            own = np.einsum("nd,de,ne->n", x, middle, x)
            return np.column_stack([x, np.ones(len(x)), -own])

    rng = np.random.default_rng(0)
    queries, rows = rng.normal(size=(2, 3, 2)).astype(np.float32)
    gallery = PackedGallery({"a": Detections(np.tile([0, 0, 9, 9], (3, 1)), [1] * 3, rows)}, 0, 2)
    block = similarity_block(queries, gallery, False, Quadratic())
    for q, row in zip(queries, block, strict=True):
        for g, similarity in zip(rows, row, strict=True):
            assert similarity == pytest.approx(-(q - g) @ middle @ (q - g), abs=1e-5)
