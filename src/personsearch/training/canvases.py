"""People cut out of their pictures and packed onto canvases.

A canvas shows four times as many people as a picture, at the same scales. So a network learns
cheaply to tell people apart before it has to find them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from personsearch.boxes import Boxes
from personsearch.errors import DataError
from personsearch.systems.base import Target
from personsearch.systems.inference import to_pixels
from personsearch.training.samplers import generator, visible_people
from personsearch.training.training_set import PictureCache
from personsearch.training.transforms import Augmentation, Picture
from personsearch.types import FloatArray, IntArray, Scene


@dataclass(eq=False, repr=False)
class Canvases(Dataset[tuple[Tensor, Target, str]]):
    """Canvases of labelled people, identities drawn equally often.

    The augmentation is of each person, without scaling.
    """

    scenes: Sequence[Scene]
    pictures: PictureCache
    augmentation: Augmentation
    seed: int
    size: tuple[int, int]  # (width, height) of a canvas
    most: int  # largest number of people on a canvas

    # Range of the margin around a person, as a fraction of the box's sides. It is random because
    # the border of a cut must not reveal the border of the person.
    margins: ClassVar = (0.05, 0.35)

    def __post_init__(self) -> None:
        people: dict[int, list[tuple[int, int]]] = {}
        for index, row in visible_people(self.scenes):
            people.setdefault(int(self.scenes[index].ids[row]), []).append((index, row))
        if not people:
            raise DataError("the training set has no labelled people; canvases need some")
        self._ids = sorted(people)
        self._people = people

    def __getitem__(self, slot: tuple[int, int]) -> tuple[Tensor, Target, str]:
        """Return the canvas at a place of an iteration, both counted from zero."""
        iteration, place = slot
        canvas, boxes, ids = self._pack(generator(self.seed, 4, iteration, place))
        target = Target(torch.from_numpy(boxes), torch.from_numpy(ids))
        return to_pixels(canvas), target, f"canvas {place} of iteration {iteration}"

    def _pack(self, rng: np.random.Generator) -> tuple[Picture, FloatArray, IntArray]:
        """Fill a canvas in rows from left to right until the next person does not fit."""
        width, height = self.size
        canvas = np.empty((height, width, 3), dtype=np.uint8)
        canvas[:] = rng.integers(60, 190, 3)
        x, y, row_height = 0, 0, 0
        boxes: list[Boxes] = []
        ids: list[int] = []
        for identity in rng.choice(self._ids, self.most, replace=len(self._ids) < self.most):
            shown = self._people[int(identity)]
            cut, box = self._cut(*shown[int(rng.integers(len(shown)))], rng)
            h, w = cut.shape[:2]
            if x + w > width:
                x, y, row_height = 0, y + row_height, 0
            if y + h > height or w > width:
                break
            canvas[y : y + h, x : x + w] = cut
            boxes.append(box + np.array([x, y, x, y]))
            ids.append(int(identity))
            x, row_height = x + w, max(row_height, h)
        return canvas, np.array(boxes, np.float32).reshape(-1, 4), np.array(ids, np.int64)

    def _cut(self, index: int, row: int, rng: np.random.Generator) -> tuple[Picture, Boxes]:
        """Cut out one person with a margin; return the augmented cut and the box within it."""
        picture = self.pictures[index]
        height, width = picture.shape[:2]
        x1, y1, x2, y2 = self.scenes[index].boxes[row].tolist()
        before, after = rng.uniform(*self.margins, (2, 2)) * [x2 - x1, 0.5 * (y2 - y1)]
        left, top = max(0, int(x1 - before[0])), max(0, int(y1 - before[1]))
        right = min(width, int(x2 + after[0]) + 1)
        bottom = min(height, int(y2 + after[1]) + 1)
        cut = picture[top:bottom, left:right]
        box = np.array([x1 - left, y1 - top, x2 - left, y2 - top])
        # The scale varies. A person fills at most 5 / 8 of the canvas's height and its width.
        fits = min(1.0, self.size[1] / 2 / (y2 - y1), self.size[0] / 1.25 / cut.shape[1])
        scale = float(rng.uniform(0.75, 1.25)) * fits
        w, h = max(8, round(cut.shape[1] * scale)), max(8, round(cut.shape[0] * scale))
        sx, sy = w / cut.shape[1], h / cut.shape[0]
        cut = cv2.resize(cut, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        # A box may extend beyond its picture.
        box = np.clip(box * (sx, sy, sx, sy), 0, (w, h, w, h))
        return self.augmentation.crop(cut, box, rng)
