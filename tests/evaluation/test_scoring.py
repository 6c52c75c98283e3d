"""The right answer of a picture: the most similar detection that overlaps the target enough."""

import numpy as np
import pytest

from personsearch import boxes
from personsearch.evaluation.scoring import first_matches, iou_thresholds, paired_iou


def test_small_people_need_less_overlap() -> None:
    targets = np.array([[0, 0, 10, 20], [0, 0, 100, 200]], np.float32)
    assert iou_thresholds(targets) == pytest.approx([200 / (20 * 30), 0.5])


def test_paired_iou_is_the_diagonal_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    corners = rng.random((2, 50, 2)) * 40
    a, b = np.concatenate([corners, corners + 5 + rng.random((2, 50, 2)) * 30], axis=2)
    np.testing.assert_allclose(paired_iou(a, b), np.diag(boxes.iou(a, b)))


def test_the_most_similar_of_each_picture_and_the_first_of_a_tie() -> None:
    target = [0.0, 0.0, 40.0, 80.0]
    targets = np.array([target, target, target], np.float32)
    near, far = [2.0, 0.0, 42.0, 80.0], [100.0, 0.0, 140.0, 80.0]
    found = np.array([near, far, near, near, near, far], np.float32)
    similarities = np.array([0.2, 0.9, 0.5, 0.7, 0.7, 0.9], np.float32)
    owners = np.array([0, 0, 0, 1, 1, 2])
    # Picture 0: the nearer to the query of two that overlap; 1: the first of a tie; 2: nobody.
    assert first_matches(targets, found, similarities, owners).tolist() == [2, 3]
