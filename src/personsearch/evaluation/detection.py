"""How well people are found, whoever they are: recall and average precision of the detections.

A detection is right when its IoU with an annotated box reaches the threshold and each is the
other's best. Average precision is over the detections kept, times recall, as in the published code
of the field: what lies below the score threshold is neither ranked nor found, so the score
threshold belongs beside every figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personsearch import boxes as box_math
from personsearch.errors import EvaluationError
from personsearch.types import Detections, FloatArray, IntArray, Scene, as_boxes

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class SceneCounts:
    """How many people a picture shows, how many were reported, and how many of those are right."""

    num_ground_truth: int
    num_detections: int
    num_true_positives: int


@dataclass(frozen=True, eq=False)
class DetectionResult:
    """What `evaluate_detection` found.

    Attributes:
        average_precision: over the kept detections, times recall, 0..1; NaN where nobody is
            annotated.
        recall: right detections / annotated people; NaN where nobody is annotated.
        precision: right detections / kept detections; 0 where nothing was kept.
        num_ground_truth: annotated people.
        num_detections: detections with at least the score threshold.
        num_true_positives: how many of those are right.
        score_threshold: as given.
        iou_threshold: as given.
        scenes: the counts of each picture by name.
        curve_scores: (K,) the distinct scores kept, descending.
        curve_recall: (K,) recall of the detections with at least that score.
        curve_precision: (K,) their precision.
    """

    average_precision: float
    recall: float
    precision: float
    num_ground_truth: int
    num_detections: int
    num_true_positives: int
    score_threshold: float
    iou_threshold: float
    scenes: Mapping[str, SceneCounts]
    curve_scores: Curve
    curve_recall: Curve
    curve_precision: Curve


@overload
def evaluate_detection(
    ground_truth: Mapping[str, ArrayLike] | Sequence[Scene],
    detections: Mapping[str, Detections],
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
) -> DetectionResult: ...


@overload
def evaluate_detection(
    ground_truth: Mapping[str, ArrayLike] | Sequence[Scene],
    detections: Mapping[str, Detections],
    score_threshold: Sequence[float],
    iou_threshold: float = 0.5,
) -> dict[float, DetectionResult]: ...


def evaluate_detection(
    ground_truth: Mapping[str, ArrayLike] | Sequence[Scene],
    detections: Mapping[str, Detections],
    score_threshold: float | Sequence[float] = 0.5,
    iou_threshold: float = 0.5,
) -> DetectionResult | dict[float, DetectionResult]:
    """Recall, precision and average precision of detections.

    Equal scores share one point of the curve, so the order of the pictures does not matter. Of
    equal IoUs the first counts as the best.

    Args:
        ground_truth: scenes, or their annotated boxes (N, 4) by name.
        detections: by scene name; pictures that are not in `ground_truth` are not looked at.
        score_threshold: detections below are left out; several thresholds give a result each.
        iou_threshold: in (0, 1].

    Returns:
        One result, or results by threshold where several were given.

    Raises:
        EvaluationError: a picture without an entry in `detections`, two scenes of one name, or a
            threshold that is no number in range.
        DataError: annotated boxes that are not boxes.
    """
    truth = _boxes_by_name(ground_truth)
    missing = [name for name in truth if name not in detections]
    if missing:
        raise EvaluationError(
            f"no detections for {len(missing)} of {len(truth)} pictures, the first is "
            f"{missing[0]!r}; give an empty Detections where nobody was found"
        )
    if not 0 < iou_threshold <= 1:
        raise EvaluationError(f"iou_threshold is {iou_threshold}, expected a number in (0, 1]")
    thresholds = as_thresholds(score_threshold)
    results = {t: _evaluate(truth, detections, t, iou_threshold) for t in thresholds}
    return results if isinstance(score_threshold, Sequence) else results[thresholds[0]]


def as_thresholds(score_threshold: float | Sequence[float]) -> list[float]:
    """Score thresholds as a checked list.

    Raises:
        EvaluationError: none at all, or one that is not finite.
    """
    given = score_threshold if isinstance(score_threshold, Sequence) else [score_threshold]
    thresholds = [float(threshold) for threshold in given]
    if not thresholds or not np.isfinite(thresholds).all():
        raise EvaluationError(
            f"score_threshold is {score_threshold!r}, expected a finite number or several"
        )
    return thresholds


def _boxes_by_name(
    ground_truth: Mapping[str, ArrayLike] | Sequence[Scene],
) -> Mapping[str, FloatArray]:
    if isinstance(ground_truth, Mapping):
        return {name: as_boxes(b, f"scene {name!r}") for name, b in ground_truth.items()}
    truth: dict[str, FloatArray] = {}
    for scene in ground_truth:
        if scene.name in truth:
            raise EvaluationError(f"two scenes are named {scene.name!r}; names must be unique")
        truth[scene.name] = scene.boxes
    return truth


def _evaluate(
    truth: Mapping[str, FloatArray],
    detections: Mapping[str, Detections],
    score_threshold: float,
    iou_threshold: float,
) -> DetectionResult:
    scenes: dict[str, SceneCounts] = {}
    scores: list[FloatArray] = []
    right: list[NDArray[np.bool_]] = []
    for name, boxes in truth.items():
        found = detections[name]
        kept = found.scores >= score_threshold
        scores.append(found.scores[kept])
        right.append(_mutual_best(boxes, found.boxes[kept], iou_threshold))
        scenes[name] = SceneCounts(len(boxes), len(scores[-1]), int(right[-1].sum()))
    num_ground_truth = sum(counts.num_ground_truth for counts in scenes.values())
    curve_scores, true_positives, kept_so_far = _cumulate(
        np.concatenate(scores), np.concatenate(right)
    )
    # Nobody to find: recall is 0 / 0.
    curve_recall = true_positives / (num_ground_truth or np.nan)
    curve_precision = true_positives / kept_so_far
    num_kept = int(kept_so_far[-1]) if len(kept_so_far) else 0
    num_right = int(true_positives[-1]) if len(true_positives) else 0
    return DetectionResult(
        # Recall already divides by everyone annotated, which is the factor of recall in AP.
        average_precision=(
            float(np.sum(np.diff(curve_recall, prepend=0.0) * curve_precision))
            if num_ground_truth
            else np.nan
        ),
        recall=num_right / (num_ground_truth or np.nan),
        precision=num_right / num_kept if num_kept else 0.0,
        num_ground_truth=num_ground_truth,
        num_detections=num_kept,
        num_true_positives=num_right,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        scenes=scenes,
        curve_scores=curve_scores,
        curve_recall=curve_recall,
        curve_precision=curve_precision,
    )


def _mutual_best(truth: FloatArray, found: FloatArray, iou_threshold: float) -> NDArray[np.bool_]:
    """(D,) which of the found boxes are right."""
    right = np.zeros(len(found), dtype=np.bool_)
    if len(truth) and len(found):
        ious = box_math.iou(truth.astype(np.float64), found.astype(np.float64))
        best_truth = ious.argmax(axis=0)
        columns = np.arange(len(found))
        right = ious[best_truth, columns] >= iou_threshold
        right &= ious.argmax(axis=1)[best_truth] == columns
    return right


def _cumulate(scores: FloatArray, right: NDArray[np.bool_]) -> tuple[Curve, IntArray, IntArray]:
    """The distinct scores, descending, with the right and all detections down to each."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.diff(ordered, append=-np.inf))
    return (
        ordered[ends].astype(np.float64),
        np.cumsum(right[order], dtype=np.int64)[ends],
        ends.astype(np.int64) + 1,
    )
