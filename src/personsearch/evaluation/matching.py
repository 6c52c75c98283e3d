"""The right answer in a picture that shows the person."""

import numpy as np
from numpy.typing import NDArray

from personsearch.types import FloatArray, IntArray


def iou_thresholds(targets: FloatArray) -> NDArray[np.float64]:
    """(T,) ``min(0.5, w h / ((w + 10)(h + 10)))``: small people need less overlap."""
    sides = targets[:, 2:].astype(np.float64) - targets[:, :2]
    width, height = sides[:, 0], sides[:, 1]
    return np.minimum(0.5, width * height / ((width + 10) * (height + 10)))


def paired_iou(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """(N,) IoU of each box of `a` with the same row of `b` (N, 4), in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    shared = sides[:, 0] * sides[:, 1]
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    ious: NDArray[np.float64] = shared / (area_a + area_b - shared)
    return ious


def first_matches(
    targets: FloatArray, boxes: FloatArray, similarities: FloatArray, owners: IntArray
) -> IntArray:
    """Return the indices of the right answers, at most one for each target (T, 4).

    The right answer is the most similar of the boxes (N, 4) in the target's picture that overlap
    the target enough, and the first of equally similar ones. `owners` (N,) are the targets in whose
    pictures the boxes are.
    """
    reaching = np.flatnonzero(paired_iou(boxes, targets[owners]) >= iou_thresholds(targets)[owners])
    # Indices ascend, and lexsort is stable: the first of each picture wins a tie.
    order = reaching[np.lexsort((-similarities[reaching], owners[reaching]))]
    first = np.unique(owners[order], return_index=True)[1]
    matches: IntArray = order[first]
    return matches
