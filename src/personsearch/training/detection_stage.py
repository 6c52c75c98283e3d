"""The first step of sequential training: detection, on any number of data sets together.

A person in a picture needs no identity here, so every set with boxes will do (Loesch et al. 2019,
section 2, Two-step training).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from personsearch.datasets import open_dataset
from personsearch.errors import RecipeError
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.training.recipe import Recipe
from personsearch.training.samplers import RandomSampler
from personsearch.training.stages import SceneStage
from personsearch.training.training_set import Batch, PictureCache, TrainingSet
from personsearch.training.transforms import Augmentation
from personsearch.types import UNLABELLED, Scene


@runtime_checkable
class DetectionTrained(Protocol):
    """A system whose detector can be trained by itself."""

    def detection_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """The named losses of finding people."""

    def detection_parameters(self) -> list[nn.Parameter]:
        """What they train."""


class DetectionStage(SceneStage):
    """Whole pictures of the training set and of others, the detection losses alone.

    Pictures, augmentation, momentum and accumulation are the recipe's; every picture of every set
    comes once an epoch.

    Args:
        recipe: what the run depends on.
        scenes: the training scenes.
        pictures: theirs.

        detection_data: folders of more data sets, of any format that `open_dataset` reads. Of
            each its ``train`` split, or all of it where it has none.
        detection_iterations: optimizer steps; 0 leaves the stage out.
        detection_lr: learning rate after the warm-up, then half a cosine down to 0.
        detection_warmup: iterations of linear warm-up.
        detection_optimizer: SGD as in the paper, or AdamW.
        detection_weight_decay: of every weight; the paper does not give it.

    Raises:
        RecipeError: a setting that contradicts another, or a data set of another object class.
        DataError: a data set that cannot be read, or fewer pictures than a batch.
    """

    name = "detection"

    def __init__(
        self,
        recipe: Recipe,
        scenes: Sequence[Scene],
        pictures: PictureCache,
        *,
        detection_data: Sequence[str] = (),
        detection_iterations: int = 0,
        detection_lr: float = 1e-3,
        detection_warmup: int = 0,
        detection_optimizer: Literal["sgd", "adamw"] = "sgd",
        detection_weight_decay: float = 1e-4,
    ) -> None:
        if not 0 <= detection_warmup <= detection_iterations:
            raise RecipeError(
                f"detection_warmup {detection_warmup} is longer than detection_iterations "
                f"{detection_iterations}, or one of them is negative"
            )
        if detection_lr <= 0 or detection_weight_decay < 0:
            raise RecipeError(
                f"detection_lr is {detection_lr} and detection_weight_decay "
                f"{detection_weight_decay}; expected a rate above 0 and a decay of 0 or more"
            )
        self.recipe = recipe
        self.iterations, self.accumulate = detection_iterations, recipe.accumulate
        self.warmup, self.lr = detection_warmup, detection_lr
        self.optimizer, self.weight_decay = detection_optimizer, detection_weight_decay
        # A stage that is left out reads nothing.
        more = detection_data if detection_iterations else ()
        together = [*scenes, *more_scenes(more, recipe.object_class)]
        if len(together) > len(scenes):
            pictures = PictureCache(together, recipe.cache_pictures)
        augmentation = Augmentation(
            recipe.flip, recipe.scale_jitter, recipe.color_jitter, recipe.erase
        )
        self.training_set = TrainingSet(together, pictures, augmentation, recipe.seed)
        self.sampler = RandomSampler(together, recipe.images_per_iteration, recipe.seed)

    def parameters(self, model: PersonSearchModel) -> list[nn.Parameter]:
        """The detector's."""
        return _trained(model).detection_parameters()

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The stage's own."""
        if self.optimizer == "adamw":
            return torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            parameters, self.lr, self.recipe.momentum, weight_decay=self.weight_decay
        )

    def losses(
        self, model: PersonSearchModel, images: list[Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """The detection losses of the system."""
        return _trained(model).detection_losses(images, batch.targets)

    def learning_rate(self, iteration: int) -> float:
        """Linear warm-up, then half a cosine."""
        if iteration < self.warmup:
            return self.lr * (iteration + 1) / self.warmup
        done = (iteration - self.warmup) / max(1, self.iterations - self.warmup)
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * done))


def more_scenes(folders: Sequence[str], object_class: str) -> list[Scene]:
    """The pictures of further data sets, everyone in them unlabelled.

    Args:
        folders: of data sets.
        object_class: what the boxes have to hold.

    Raises:
        RecipeError: one holds something else.
        DataError: one cannot be read.
    """
    scenes: list[Scene] = []
    for folder in folders:
        dataset = open_dataset(Path(folder))
        if dataset.object_class != object_class:
            raise RecipeError(
                f"detection_data: the boxes of {folder} hold {dataset.object_class!r}, the "
                f"recipe's object_class is {object_class!r}; leave that data set out"
            )
        split = dataset.splits.get("train")
        # Identities of different sets mean nothing to each other.
        scenes += [
            replace(scene, ids=np.full_like(scene.ids, UNLABELLED))
            for scene in (dataset if split is None else split)
        ]
    return scenes


def _trained(model: PersonSearchModel) -> DetectionTrained:
    if not isinstance(model, DetectionTrained):
        raise RecipeError(
            f"the detector of {type(model).__name__} cannot be trained by itself; set "
            "detection_iterations = 0"
        )
    return model
