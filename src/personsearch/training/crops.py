"""Crops of people and of background, resized to one size.

Half of a batch are labelled people, half are boxes without people (Xiao et al. 2016, section 4.2).
A batch holds dozens of identities, where whole pictures would show a handful.
"""

from dataclasses import dataclass
from itertools import count

import cv2
import numpy as np
import torch

from personsearch import boxes as box_arithmetic
from personsearch.errors import DataError
from personsearch.systems.base import Target
from personsearch.systems.inference import to_pixels
from personsearch.training.samplers import EpochOrder, SceneSampler, generator, visible_people
from personsearch.training.training_set import Slot, TrainingSet
from personsearch.training.transforms import Picture
from personsearch.types import BACKGROUND, FloatArray

BACKGROUND_IOU = 0.3  # background overlaps every person less, as in the authors' code


@dataclass(eq=False, repr=False)
class Crops(TrainingSet):
    """Crops by slot: an iteration, a position in its batch, and a row of `people` or `BACKGROUND`.

    `people` holds the scene and row of each labelled person who is inside the picture. Crops are
    augmented without scaling.
    """

    size: tuple[int, int] = (224, 224)  # (height, width) of a crop in pixels
    # height and width of background, each times 0.5 to 2, in pixels of the picture
    background_size: tuple[int, int] = (160, 64)
    margin: float = 0.0  # largest random one around a box, as a fraction of its sides

    def __post_init__(self) -> None:
        self.people = visible_people(self.scenes)
        if not self.people:
            raise DataError("the training set has no labelled people; crops need some")

    def __getitem__(self, slot: Slot) -> tuple[torch.Tensor, Target, str]:
        """Crop (3, h, w), its box (1, 4) and id (1,), and the name of its scene."""
        iteration, place, whom = slot
        rng = generator(self.seed, 7, iteration, place)
        if whom == BACKGROUND:
            index, box = self.background(rng)
            identity = BACKGROUND
        else:
            index, row = self.people[whom]
            box, identity = self.scenes[index].boxes[row], int(self.scenes[index].ids[row])
        crop, inner = self._cut(self.pictures[index], box, rng)
        target = Target(torch.from_numpy(inner[None]), torch.tensor([identity]))
        return to_pixels(crop), target, self.scenes[index].name

    def background(self, rng: np.random.Generator) -> tuple[int, FloatArray]:
        """Draw a scene and a box (4,) in it that overlaps everyone less than `BACKGROUND_IOU`."""
        height, width = self.background_size
        for attempt in count():
            index = int(rng.integers(len(self.scenes)))
            scene = self.scenes[index]
            # Smaller ones each time, in case that the pictures are small.
            sides = np.array([width, height]) * rng.uniform(0.5, 2.0, 2) * 0.98**attempt
            room = np.array(scene.size) - sides
            if room.min() < 0:
                continue
            corner = rng.random(2) * room
            box = np.concatenate([corner, corner + sides]).astype(np.float32)
            if box_arithmetic.iou(box[None], scene.boxes).max(initial=0.0) < BACKGROUND_IOU:
                break
        return index, box

    def _cut(
        self, picture: Picture, box: FloatArray, rng: np.random.Generator
    ) -> tuple[Picture, FloatArray]:
        """Cut out the box with a margin, resized and augmented; return the box within it too."""
        height, width = picture.shape[:2]
        sides = np.tile(box[2:] - box[:2], 2)
        outer = box + rng.uniform(0, self.margin, 4) * sides * [-1, -1, 1, 1]
        left, top = np.clip(np.floor(outer[:2]), 0, (width - 1, height - 1)).astype(int)
        end = np.clip(np.ceil(outer[2:]), (left + 1, top + 1), (width, height))
        right, bottom = end.astype(int)
        h, w = self.size
        cut: Picture = cv2.resize(picture[top:bottom, left:right], (w, h)).astype(np.uint8)
        scale = np.tile([w / (right - left), h / (bottom - top)], 2)
        inner = np.clip((box - [left, top, left, top]) * scale, 0, (w, h, w, h))
        cut, inner = self.augmentation.crop(cut, inner, rng)
        return cut, inner.astype(np.float32)


class CropSampler(SceneSampler):
    """Every labelled person once per epoch, in random order, and as much background.

    People and background alternate, so that processes that share a batch get both.
    """

    def __init__(self, crops: Crops, batch_size: int, seed: int) -> None:
        if batch_size < 2 or batch_size % 2:
            raise DataError(
                f"the batch size is {batch_size}, expected an even number: half of the crops are "
                "people, half background"
            )
        self.scenes, self.batch_size, self.seed = crops.scenes, batch_size, seed
        self._order = EpochOrder(len(crops.people), seed, stream=8)

    def batch(self, iteration: int) -> list[int]:
        """Rows of `Crops.people`, alternating with `BACKGROUND`."""
        half = self.batch_size // 2
        start = iteration * half
        return [whom for p in range(start, start + half) for whom in (self._order[p], BACKGROUND)]
