"""The second stage of RDLR: the re-ID network on crops of true boxes.

The schedule, batches and augmentation are those of the strong baseline that Han et al. (2019,
footnote 2) name, ``L1aoXingyu/reid_baseline``: 16 identities with 4 crops each, softmax and
batch-hard triplets, Adam.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.errors import DataError, RecipeError
from personsearch.systems.base import Target, move_sides
from personsearch.systems.inference import to_tensor
from personsearch.systems.rdlr import RDLR
from personsearch.systems.roi_transform import roi_transform
from personsearch.training.feature_stage import shots
from personsearch.training.recipe import Recipe
from personsearch.training.samplers import SceneSampler, generator, visible_people
from personsearch.training.stages import LoadedStage, trainable
from personsearch.training.training_set import Batch, PictureCache, Slot, TrainingSet
from personsearch.training.transforms import Augmentation
from personsearch.types import Scene


class ReidStage(LoadedStage):
    """Crops of labelled people, the losses of the re-ID network alone."""

    name = "re-identification"
    interface = RDLR
    batch_keys, size_keys = ("reid_batch_ids", "reid_batch_shots"), ("crop_size",)

    def __init__(
        self,
        recipe: Recipe,
        scenes: Sequence[Scene],
        pictures: PictureCache,
        *,
        reid_iterations: int = 0,  # optimizer steps; 0 skips the stage
        reid_optimizer: Literal["sgd", "adam", "adamw"] = "adam",
        reid_lr: float = 3.5e-4,  # after the warm-up
        reid_weight_decay: float = 5e-4,  # of every weight
        reid_warmup: int = 0,  # iterations of linear warm-up
        reid_decay_at: Sequence[int] = (),  # x 0.1 at these; none: half a cosine down to a tenth
        reid_batch_ids: int = 16,  # identities in a batch; all if there are fewer
        reid_batch_shots: int = 4,  # crops of each, repeated if there are fewer
        reid_margin: float = 0.3,  # of batch-hard triplets; 0: softmax alone
        reid_padding: int = 10,  # a crop gets this black border, then a random cut of its size
        reid_erase: float = 0.5,  # probability that part of a person is covered
        reid_jitter: float = 0.0,  # most that the sides of true boxes move, of their size
    ) -> None:
        if not 0 <= reid_warmup <= reid_iterations or reid_lr <= 0 or reid_weight_decay < 0:
            raise RecipeError(
                f"reid_iterations is {reid_iterations}, reid_warmup {reid_warmup}, reid_lr "
                f"{reid_lr} and reid_weight_decay {reid_weight_decay}; expected a warm-up that "
                "fits into the iterations, a rate above 0 and a decay of 0 or more"
            )
        if reid_batch_ids < 2 or reid_batch_shots < 2:
            raise RecipeError(
                f"reid_batch_ids is {reid_batch_ids} and reid_batch_shots {reid_batch_shots}; "
                "triplets need 2 identities or more and 2 shots or more"
            )
        super().__init__(recipe, scenes, pictures)
        self.iterations, self.optimizer, self.lr = reid_iterations, reid_optimizer, reid_lr
        self.weight_decay, self.warmup, self.floor = reid_weight_decay, reid_warmup, 0.1
        self.schedule, self.decay_at = "step" if reid_decay_at else "cosine", reid_decay_at
        self.bias_lr_factor, self.bias_decay = 1.0, True  # biases learn as all weights do
        self.margin = reid_margin
        if not reid_iterations:  # a skipped stage needs no labelled people
            return
        crop_size = recipe.settings["crop_size"]
        augmentation = Augmentation(recipe.flip, 0.0, recipe.color_jitter, reid_erase)
        self.training_set = crops = PersonCrops(
            scenes, pictures, augmentation, recipe.seed, crop_size, reid_padding, reid_jitter
        )
        self.sampler = PersonSampler(crops, reid_batch_ids, reid_batch_shots, recipe.seed)

    def parameters(self, model: RDLR) -> list[nn.Parameter]:
        return trainable(model.reid)

    def losses(self, model: RDLR, images: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        ids = torch.cat([target.ids for target in batch.targets])
        return model.reid.losses(torch.stack(images), ids, self.margin)


@dataclass(eq=False, repr=False)
class PersonCrops(TrainingSet):
    """Crops of labelled people by slot: an iteration, a position, and a row of `people`.

    They are cut by the ROI transform, as at search time.
    """

    size: Sequence[int] = (384, 128)  # height and width of a crop
    padding: int = 0  # see `ReidStage`, as the next
    jitter: float = 0.0

    def __post_init__(self) -> None:
        self.people = visible_people(self.scenes)
        self.ids = np.array([self.scenes[i].ids[row] for i, row in self.people], np.int64)
        if len(np.unique(self.ids)) < 2:
            raise DataError(
                "the training set has fewer than two labelled identities; the re-ID network needs "
                "two, set reid_iterations = 0"
            )

    def __getitem__(self, slot: Slot) -> tuple[Tensor, Target, str]:
        """Crop (3, h, w), its box (1, 4) and id (1,), and the name of its scene."""
        iteration, place, person = slot
        rng = generator(self.seed, 9, iteration, place)
        index, row = self.people[person]
        picture, boxes = self.pictures[index], torch.tensor(self.scenes[index].boxes[[row]])
        moves = torch.from_numpy(rng.uniform(-self.jitter, self.jitter, (1, 4)))
        box = move_sides(boxes, moves)[0].numpy()
        # A pixel beyond the box is all that the transform may read.
        height, width = picture.shape[:2]
        left, top = np.clip(np.floor(box[:2]) - 1, 0, (width - 1, height - 1)).astype(int)
        end = np.clip(np.ceil(box[2:]) + 1, (left + 1, top + 1), (width, height)).astype(int)
        cut = picture[top : end[1], left : end[0]]
        cut, box = self.augmentation.crop(cut, box - [left, top, left, top], rng)
        boxes = torch.from_numpy(box[None].astype(np.float32))
        crop = roi_transform([to_tensor(cut)], [boxes], self.size)[0]
        h, w = self.size
        y, x = rng.integers(0, 2 * self.padding + 1, 2).tolist()
        crop = functional.pad(crop, (self.padding,) * 4)[:, y : y + h, x : x + w]
        target = Target(torch.tensor([[0.0, 0.0, w, h]]), torch.from_numpy(self.ids[[person]]))
        return crop, target, self.scenes[index].name


class PersonSampler(SceneSampler):
    """Rows of `PersonCrops.people`: some identities, and some crops of each."""

    def __init__(self, crops: PersonCrops, identities: int, shots: int, seed: int) -> None:
        self.scenes, self.seed, self.shots = crops.scenes, seed, shots
        self._rows = [np.flatnonzero(crops.ids == i).tolist() for i in np.unique(crops.ids)]
        self._pictures = np.array([index for index, _ in crops.people])
        self.identities = min(identities, len(self._rows))
        self.batch_size = self.identities * shots

    def batch(self, iteration: int) -> list[int]:
        """The crops of this iteration, those of one identity together."""
        rng = generator(self.seed, 10, iteration)
        chosen: list[int] = []
        for identity in rng.choice(len(self._rows), self.identities, replace=False).tolist():
            rows = shots(self._rows[identity], self._pictures, self.shots, rng)
            chosen += np.resize(rows, self.shots).tolist()
        return chosen
