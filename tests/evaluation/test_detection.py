"""Detection metrics against a slow, literal version, and by hand."""

from pathlib import Path

import numpy as np
import pytest

from personsearch.errors import DataError, EvaluationError
from personsearch.evaluation import evaluate_detection
from personsearch.types import Detections, Scene

BOXES = [[0, 0, 10, 10], [20, 0, 30, 10]]
NOBODY = Detections(np.zeros((0, 4)), np.zeros(0))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def slow(
    truth: dict[str, np.ndarray], found: dict[str, Detections], threshold: float
) -> tuple[float, float, int]:
    """Average precision, recall and right detections, one pair of boxes at a time."""
    marks: list[tuple[float, bool]] = []
    for name, boxes in truth.items():
        kept = [r for r in range(len(found[name])) if found[name].scores[r] >= threshold]
        table = [[iou(t, found[name].boxes[r].astype(float)) for r in kept] for t in boxes]
        for column, row in enumerate(kept):
            best = max(range(len(boxes)), key=lambda t: table[t][column], default=None)
            right = best is not None and table[best][column] >= 0.5
            right = right and max(range(len(kept)), key=lambda c: table[best][c]) == column
            marks.append((float(found[name].scores[row]), bool(right)))
    people = sum(map(len, truth.values()))
    num_right = sum(right for _, right in marks)
    area = previous = 0.0
    for level in sorted({score for score, _ in marks}, reverse=True):
        above = [right for score, right in marks if score >= level]
        recall = sum(above) / people
        area += (recall - previous) * sum(above) / len(above)
        previous = recall
    return area, num_right / people, num_right


def test_equals_the_slow_version() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        truth, found = {}, {}
        for name in "abc":
            corner = rng.integers(0, 30, (rng.integers(0, 4), 2))
            truth[name] = np.concatenate([corner, corner + rng.integers(5, 20, corner.shape)], 1)
            near = np.repeat(truth[name], rng.integers(0, 3, len(corner)), axis=0)
            near = near + rng.integers(-2, 3, near.shape)
            scores = rng.choice([0.3, 0.5, 0.8, 0.9], len(near))
            found[name] = Detections(near, scores)
        if not sum(map(len, truth.values())):
            continue
        results = evaluate_detection(truth, found, [0.5, 0.1])
        for threshold, result in results.items():
            area, recall, num_right = slow(truth, found, threshold)
            assert result.average_precision == pytest.approx(area, abs=1e-12)
            assert result.recall == pytest.approx(recall)
            assert result.num_true_positives == num_right
            assert sum(s.num_true_positives for s in result.scenes.values()) == num_right
            if result.num_detections:
                assert result.precision == pytest.approx(num_right / result.num_detections)
                assert result.curve_recall[-1] == pytest.approx(recall)
                assert (np.diff(result.curve_scores) < 0).all()


def test_by_hand() -> None:
    found = Detections(
        [[0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 9], [50, 50, 60, 60]], [0.9, 0.8, 0.7, 0.6]
    )
    result = evaluate_detection({"a": BOXES}, {"a": found})
    # Wrong (not the person's best), right, right, wrong.
    assert result.average_precision == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (result.recall, result.precision) == (1.0, 0.5)
    np.testing.assert_allclose(result.curve_precision, [0, 1 / 2, 2 / 3, 1 / 2])
    np.testing.assert_allclose(result.curve_recall, [0, 1 / 2, 1, 1])


def test_missed_people_lower_the_average_precision() -> None:
    result = evaluate_detection(
        {"a": BOXES, "b": BOXES}, {"a": Detections(BOXES, [1, 1]), "b": NOBODY}
    )
    assert (result.average_precision, result.recall, result.precision) == (0.5, 0.5, 1.0)


def test_scenes_and_mappings_are_the_same() -> None:
    scene = Scene("a", Path("a.jpg"), (100, 100), np.array(BOXES), np.array([1, -1]))
    found = {"a": Detections([BOXES[0]], [0.5])}
    assert (
        evaluate_detection([scene], found).recall == evaluate_detection({"a": BOXES}, found).recall
    )
    assert evaluate_detection([scene], found).num_ground_truth == 2


def test_iou_threshold() -> None:
    found = {"a": Detections([[0, 0, 10, 6]], [1])}
    assert evaluate_detection({"a": BOXES}, found, iou_threshold=0.6).num_true_positives == 1
    assert evaluate_detection({"a": BOXES}, found, iou_threshold=0.61).num_true_positives == 0


def test_nobody_found_and_nobody_there() -> None:
    nothing = evaluate_detection({"a": BOXES}, {"a": NOBODY})
    assert (nothing.average_precision, nothing.recall, nothing.precision) == (0, 0, 0)
    empty = evaluate_detection({"a": np.zeros((0, 4))}, {"a": Detections(BOXES, [1, 1])})
    assert np.isnan([empty.average_precision, empty.recall]).all()
    assert (empty.precision, empty.num_detections) == (0.0, 2)


def test_refuses_what_cannot_be_scored() -> None:
    with pytest.raises(
        EvaluationError, match="no detections for 1 of 2 pictures, the first is 'b'"
    ):
        evaluate_detection({"a": BOXES, "b": BOXES}, {"a": NOBODY})
    scene = Scene("a", Path("a.jpg"), (100, 100), np.array(BOXES), np.array([1, -1]))
    with pytest.raises(EvaluationError, match="two scenes are named 'a'"):
        evaluate_detection([scene, scene], {"a": NOBODY})
    with pytest.raises(EvaluationError, match="iou_threshold is 0"):
        evaluate_detection({"a": BOXES}, {"a": NOBODY}, iou_threshold=0)
    with pytest.raises(EvaluationError, match="score_threshold"):
        evaluate_detection({"a": BOXES}, {"a": NOBODY}, [])
    with pytest.raises(DataError, match="scene 'a': box 0"):
        evaluate_detection({"a": [[0, 0, 0, 5]]}, {"a": NOBODY})
