"""Pictures inside the page: small JPEGs as ``data:`` addresses, so that nothing is fetched."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from personsearch.plots.rankings import BLUE, Picture


@dataclass(frozen=True)
class Embedded:
    """A picture for an ``<img>``: its ``data:image/jpeg`` address and its size in pixels."""

    address: str
    width: int
    height: int


def embed(picture: Picture, quality: int = 80) -> Embedded:
    """Encode RGB (H, W, 3) uint8 as an optimised JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)
    text = base64.b64encode(encoded.tobytes()).decode("ascii")
    height, width = picture.shape[:2]
    return Embedded(f"data:image/jpeg;base64,{text}", width, height)


def whole_scene(
    picture: Picture, box: ArrayLike, *, width: int = 520, color: tuple[int, int, int] = BLUE
) -> Picture:
    """Return the picture with a box (4,) in pixels drawn, shrunk to `width` where it is wider."""
    scale = min(1.0, width / picture.shape[1])
    size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
    drawn: Picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    x1, y1, x2, y2 = (round(side * scale) for side in np.asarray(box, np.float64).tolist())
    # A white rim separates the outline from any background.
    cv2.rectangle(drawn, (x1 - 1, y1 - 1), (x2, y2), (255, 255, 255), 4)
    cv2.rectangle(drawn, (x1 - 1, y1 - 1), (x2, y2), color, 2)
    return drawn
