"""Box arithmetic: (N, 4) float arrays of ``x1, y1, x2, y2`` in pixels, x2 and y2 exclusive."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[Any]


def _rows(boxes: Boxes) -> Boxes:
    """Return floats (N, 4); integers would overflow in the uint8 of some MATLAB files."""
    boxes = np.asarray(boxes)
    if not np.issubdtype(boxes.dtype, np.floating):
        boxes = boxes.astype(np.float64)
    return boxes.reshape(-1, 4)


def from_xywh(boxes: Boxes) -> Boxes:
    """Convert ``x, y, w, h`` (N, 4) to ``x1, y1, x2, y2``."""
    boxes = _rows(boxes)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def to_xywh(boxes: Boxes) -> Boxes:
    """Convert ``x1, y1, x2, y2`` (N, 4) to ``x, y, w, h``."""
    boxes = _rows(boxes)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def clip(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """Clip boxes to a picture of (width, height); boxes outside become empty."""
    boxes = _rows(boxes)
    width, height = size
    clipped: Boxes = np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))
    return clipped


def area(boxes: Boxes) -> NDArray[Any]:
    """Return areas (N,) in square pixels, 0 for empty boxes."""
    boxes = _rows(boxes)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    product: NDArray[Any] = sides[:, 0] * sides[:, 1]
    return product


def intersection(a: Boxes, b: Boxes) -> NDArray[Any]:
    """Return the intersection areas (N, M) of all pairs of boxes."""
    a, b = _rows(a), _rows(b)
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    product: NDArray[Any] = sides[..., 0] * sides[..., 1]
    return product


def iou(a: Boxes, b: Boxes) -> NDArray[Any]:
    """Return the intersection over union (N, M) of all pairs of boxes."""
    shared = intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - shared
    ratio: NDArray[Any] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio
