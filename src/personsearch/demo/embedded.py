"""Pictures inside of a page: small JPEGs as ``data:`` addresses, so that nothing is fetched."""

import base64

import cv2
import numpy as np
from numpy.typing import ArrayLike

from personsearch.plots.rankings import BLUE, Picture


def jpeg_address(picture: Picture, quality: int = 80) -> str:
    """RGB (H, W, 3) uint8 as a ``data:image/jpeg`` address."""
    _, encoded = cv2.imencode(
        ".jpg",
        np.ascontiguousarray(picture[..., ::-1]),
        [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    )
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"


def whole_scene(
    picture: Picture,
    box: ArrayLike,
    *,
    width: int = 520,
    color: tuple[int, int, int] = BLUE,
) -> Picture:
    """The whole picture, shrunk to `width` where it is wider, with a box drawn.

    Args:
        picture: RGB (H, W, 3) uint8.
        box: (4,) x1, y1, x2, y2 in its pixels.
        width: in pixels.
        color: of the box.
    """
    scale = min(1.0, width / picture.shape[1])
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    drawn: Picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    x1, y1, x2, y2 = (round(side * scale) for side in np.asarray(box, np.float64).tolist())
    # White around the colour keeps the outline apart from any background.
    cv2.rectangle(drawn, (x1 - 1, y1 - 1), (x2, y2), (255, 255, 255), 4)
    cv2.rectangle(drawn, (x1 - 1, y1 - 1), (x2, y2), color, 2)
    return drawn
