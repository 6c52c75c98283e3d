"""HSV histograms: the baseline of colour alone that every learned embedding has to beat.

A person is cut into horizontal stripes, because head, torso and legs differ and people stand
upright (Gray and Tao, "Viewpoint invariant pedestrian recognition with an ensemble of localized
features", ECCV 2008). Each stripe gets a joint histogram of hue, saturation and value. The square
root makes a dot product of two histograms their Bhattacharyya coefficient.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.errors import DataError
from personsearch.types import FloatArray

STRIPES = 6
BINS = (8, 4, 4)
"""Bins of hue, saturation and value. Hue tells most; value changes with the light."""

DIM = STRIPES * BINS[0] * BINS[1] * BINS[2]
_SIZE = (48, 96)  # width, height: every stripe holds 768 pixels, however small the crop was
_RANGES = (180, 256, 256)  # OpenCV's hue is in steps of two degrees


def extract(crop: NDArray[Any]) -> FloatArray:
    """Return the embedding of one person, (768,) float32 of unit length.

    The dot product of two is the mean Bhattacharyya coefficient of their stripes: 1 for the same
    colours at the same heights, 0 if no colour is shared.

    Args:
        crop: RGB (H, W, 3) uint8, at least one pixel.

    Raises:
        DataError: another shape or type.
    """
    if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or not crop.size:
        raise DataError(
            f"crop is {crop.dtype} of shape {crop.shape}, expected RGB uint8 (H, W, 3), not empty"
        )
    # Nearest neighbour: interpolation would mix colours into ones that the person does not wear.
    resized = cv2.resize(crop, _SIZE, interpolation=cv2.INTER_NEAREST)
    pixels = cv2.cvtColor(resized, cv2.COLOR_RGB2HSV).reshape(STRIPES, -1, 3)
    cells = np.arange(STRIPES)[:, None]
    for channel, (bins, limit) in enumerate(zip(BINS, _RANGES, strict=True)):
        cells = cells * bins + pixels[..., channel].astype(np.int64) * bins // limit
    counts = np.bincount(cells.ravel(), minlength=DIM)
    # All stripes hold the same number of pixels, so one norm gives a unit vector.
    vector: FloatArray = np.sqrt(counts / counts.sum()).astype(np.float32)
    return vector
