"""Recall and average precision of person detection.

A detection is right when its IoU with an annotated box reaches the threshold and each is the
other's best. Average precision is over the detections kept, times recall, as in the published code
of the field. Detections below the score threshold are neither ranked nor found, so report the
threshold with every metric.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personsearch import boxes as box_math
from personsearch.errors import EvaluationError
from personsearch.types import Detections, FloatArray, Scene, as_boxes

Curve = NDArray[np.float64]
GroundTruth = Mapping[str, ArrayLike] | Sequence[Scene]
_T = TypeVar("_T")


@dataclass(frozen=True)
class SceneCounts:
    """Annotated people, kept detections and right detections of one picture."""

    num_ground_truth: int
    num_detections: int
    num_true_positives: int


@dataclass(frozen=True, eq=False)
class DetectionResult:
    """Detection metrics, 0..1. Detections are kept from the score threshold on.

    Average precision and recall are NaN where nobody is annotated.
    """

    average_precision: float  # over the kept detections, times recall
    recall: float  # right detections / annotated people
    precision: float  # right detections / kept detections; 0 where nothing was kept
    num_ground_truth: int
    num_detections: int
    num_true_positives: int
    score_threshold: float
    iou_threshold: float
    scenes: Mapping[str, SceneCounts]  # by picture name
    curve_scores: Curve  # (K,) the distinct scores kept, descending
    curve_recall: Curve  # (K,) of the detections with at least that score
    curve_precision: Curve  # (K,) likewise


@overload
def evaluate_detection(
    ground_truth: GroundTruth,
    detections: Mapping[str, Detections],
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
) -> DetectionResult: ...


@overload
def evaluate_detection(
    ground_truth: GroundTruth,
    detections: Mapping[str, Detections],
    score_threshold: Sequence[float],
    iou_threshold: float = 0.5,
) -> dict[float, DetectionResult]: ...


def evaluate_detection(
    ground_truth: GroundTruth,
    detections: Mapping[str, Detections],
    score_threshold: float | Sequence[float] = 0.5,
    iou_threshold: float = 0.5,
) -> DetectionResult | dict[float, DetectionResult]:
    """Compute recall, precision and average precision.

    Equal scores share one point of the curve, so the order of the pictures does not matter. Of
    equal IoUs the first counts as the best.

    Args:
        ground_truth: scenes, or their annotated boxes (N, 4) by name.
        detections: by scene name; scenes that are not in `ground_truth` are ignored.
        score_threshold: lowest score of a detection; several thresholds give results by threshold.
        iou_threshold: in (0, 1].

    Raises:
        EvaluationError: a picture without an entry in `detections`, two scenes of one name, or a
            threshold out of range.
        DataError: invalid annotated boxes.
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
    return at_thresholds(
        score_threshold, lambda least: _evaluate(truth, detections, least, iou_threshold)
    )


def at_thresholds(
    score_threshold: float | Sequence[float], evaluate: Callable[[float], _T]
) -> _T | dict[float, _T]:
    """Evaluate at one score threshold, or at several and return the results by threshold."""
    given = score_threshold if isinstance(score_threshold, Sequence) else [score_threshold]
    thresholds = [float(threshold) for threshold in given]
    if not thresholds or not np.isfinite(thresholds).all():
        raise EvaluationError(
            f"score_threshold is {score_threshold!r}, expected a finite number or several"
        )
    results = {threshold: evaluate(threshold) for threshold in thresholds}
    return results if isinstance(score_threshold, Sequence) else results[thresholds[0]]


def _boxes_by_name(ground_truth: GroundTruth) -> Mapping[str, FloatArray]:
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
    num_right = sum(counts.num_true_positives for counts in scenes.values())
    ordered = np.concatenate(scores)
    order = np.argsort(-ordered, kind="stable")
    ordered = ordered[order]
    # Equal scores are one point of the curve.
    ends = np.flatnonzero(np.diff(ordered, append=-np.inf))
    true_positives = np.cumsum(np.concatenate(right)[order], dtype=np.int64)[ends]
    curve_recall = true_positives / (num_ground_truth or np.nan)
    curve_precision = true_positives / (ends + 1)
    return DetectionResult(
        # Recall divides by the annotated people, which is the factor of recall in AP.
        average_precision=(
            float(np.sum(np.diff(curve_recall, prepend=0.0) * curve_precision))
            if num_ground_truth
            else np.nan
        ),
        recall=num_right / (num_ground_truth or np.nan),
        precision=num_right / max(len(order), 1),
        num_ground_truth=num_ground_truth,
        num_detections=len(order),
        num_true_positives=num_right,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        scenes=scenes,
        curve_scores=ordered[ends].astype(np.float64),
        curve_recall=curve_recall,
        curve_precision=curve_precision,
    )


def _mutual_best(truth: FloatArray, found: FloatArray, iou_threshold: float) -> NDArray[np.bool_]:
    """Return a mask (D,) of the right detections."""
    if not len(truth) or not len(found):
        return np.zeros(len(found), dtype=np.bool_)
    ious = box_math.iou(truth.astype(np.float64), found.astype(np.float64))
    best, columns = ious.argmax(axis=0), np.arange(len(found))
    right: NDArray[np.bool_] = ious.argmax(axis=1)[best] == columns
    right &= ious[best, columns] >= iou_threshold
    return right
