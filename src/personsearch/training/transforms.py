"""Augmentation of pictures and their boxes, on uint8 arrays."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch import boxes as box_arithmetic
from personsearch.boxes import Boxes
from personsearch.types import FloatArray

Picture = NDArray[np.uint8]

MEAN_COLOR = (124, 116, 104)
"""The mean of ImageNet, which networks see as zeros."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training picture; 0 turns each off."""

    flip: float = 0.0  # probability of a horizontal flip
    scale_jitter: float = 0.0  # pictures are scaled by 1 +- this, then cut or padded to size
    color_jitter: float = 0.0  # channel gains, brightness and gamma vary by 1 +- this
    erase: float = 0.0  # probability, for each person, that a block of the box is covered

    def __call__(
        self, picture: Picture, boxes: FloatArray, rng: np.random.Generator
    ) -> tuple[Picture, FloatArray, NDArray[np.bool_]]:
        """Return an augmented copy of an RGB picture (H, W, 3) and its boxes (N, 4).

        Boxes of which less than half is still inside are dropped; the mask (N,) has the kept ones.
        """
        kept = np.ones(len(boxes), dtype=bool)
        if self.color_jitter > 0:
            picture = recolor(picture, rng, self.color_jitter)
        if self.scale_jitter > 0:
            picture, boxes, kept = rescale(picture, boxes, rng, self.scale_jitter)
        if self.flip > 0 and rng.random() < self.flip:
            picture, boxes = flip(picture, boxes)
        if self.erase > 0:
            picture = picture.copy()
            for box in boxes[rng.random(len(boxes)) < self.erase]:
                erase(picture, box, rng)
        return np.ascontiguousarray(picture), boxes.astype(np.float32), kept

    def crop(self, picture: Picture, box: Boxes, rng: np.random.Generator) -> tuple[Picture, Boxes]:
        """Augment the crop (h, w, 3) of one person and the box (4,) in it, without scaling."""
        if self.color_jitter > 0:
            picture = recolor(picture, rng, self.color_jitter)
        if rng.random() < self.flip:
            picture, boxes = flip(picture, box[None])
            box = boxes[0]
        picture = np.ascontiguousarray(picture)
        if rng.random() < self.erase:
            erase(picture, box.astype(np.float32), rng)
        return picture, box


def flip(picture: Picture, boxes: Boxes) -> tuple[Picture, Boxes]:
    """Mirror picture and boxes left to right."""
    width = picture.shape[1]
    mirrored = boxes.copy()
    mirrored[:, 0], mirrored[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return picture[:, ::-1], mirrored


def recolor(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    """Vary channel gains, brightness and gamma in 1 +- `strength`."""
    gains = 1.0 + rng.uniform(-strength, strength, 3) * 0.5
    brightness = 1.0 + rng.uniform(-strength, strength) * 0.5
    gamma = np.exp(rng.uniform(-strength, strength))
    ramp = (np.arange(256) / 255.0) ** gamma * 255.0
    table = np.clip(ramp[:, None] * gains[None, :] * brightness, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(np.ascontiguousarray(picture), table[None]), dtype=np.uint8)


def rescale(
    picture: Picture, boxes: FloatArray, rng: np.random.Generator, strength: float
) -> tuple[Picture, FloatArray, NDArray[np.bool_]]:
    """Scale the picture about a random point, and cut or pad it with grey to its old size.

    People of whom less than half is still inside are dropped.
    """
    height, width = picture.shape[:2]
    factor = 1.0 + rng.uniform(-strength, strength)
    shift = rng.random(2) * (1.0 - factor) * np.array([width, height])
    # Boxes are relative to pixel edges, the warp to pixel centres.
    x, y = shift + 0.5 * (factor - 1.0)
    matrix = np.array([[factor, 0.0, x], [0.0, factor, y]])
    scaled = cv2.warpAffine(picture, matrix, (width, height), borderValue=MEAN_COLOR)
    moved = boxes * factor + np.tile(shift, 2)
    clipped = box_arithmetic.clip(moved, (width, height))
    kept = box_arithmetic.area(clipped) >= 0.5 * box_arithmetic.area(moved)
    return np.asarray(scaled, dtype=np.uint8), clipped[kept].astype(np.float32), kept


def erase(picture: Picture, box: FloatArray, rng: np.random.Generator) -> None:
    """Cover a block of the box with noise, in place (Zhong et al. 2020, random erasing)."""
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    width, height = x2 - x1, y2 - y1
    if width < 8 or height < 8:
        return
    w = int(width * rng.uniform(0.2, 0.7))
    h = int(height * rng.uniform(0.1, 0.4))
    x = max(0, x1 + int(rng.integers(0, max(1, width - w))))
    y = max(0, y1 + int(rng.integers(0, max(1, height - h))))
    block = picture[y : y + h, x : x + w]
    color = rng.integers(0, 256, 3)
    noise = rng.integers(-20, 21, block.shape)
    block[:] = np.clip(color + noise, 0, 255).astype(np.uint8)
