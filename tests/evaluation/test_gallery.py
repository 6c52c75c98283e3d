"""The gallery as flat arrays, by picture."""

import numpy as np
import pytest

from personsearch.errors import EvaluationError
from personsearch.evaluation.gallery import PackedGallery, ranges
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
