"""The first stage of sequential training: detection, on any number of data sets together.

Boxes need no identities here, so every data set with boxes can be used (Loesch et al. 2019,
section 2, Two-step training).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from personsearch.datasets import open_dataset
from personsearch.errors import RecipeError
from personsearch.systems.base import Target
from personsearch.training.recipe import Recipe
from personsearch.training.samplers import RandomSampler
from personsearch.training.stages import LoadedStage, scene_augmentation
from personsearch.training.training_set import Batch, PictureCache, TrainingSet
from personsearch.types import UNLABELLED, Scene


@runtime_checkable
class DetectionTrained(Protocol):
    """A system whose detector can be trained alone."""

    def detection_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Named losses of the detector."""

    def detection_parameters(self) -> list[nn.Parameter]:
        """Parameters that they train."""


class DetectionStage(LoadedStage):
    """Whole pictures of the training set and of others, the detection losses alone.

    Augmentation, momentum and accumulation are the recipe's; every picture of every data set comes
    once an epoch.
    """

    name = "detection"
    interface = DetectionTrained

    def __init__(
        self,
        recipe: Recipe,
        scenes: Sequence[Scene],
        pictures: PictureCache,
        *,
        detection_data: Sequence[str] = (),  # folders of further data sets, see `more_scenes`
        detection_iterations: int = 0,  # optimizer steps; 0 skips the stage
        detection_lr: float = 1e-3,  # after the warm-up
        # decay after the warm-up, see `learning_rate`; linear-cosine in the paper
        detection_schedule: Literal["linear-cosine", "cosine", "step"] = "linear-cosine",
        detection_warmup: int = 0,  # iterations of linear warm-up
        detection_optimizer: Literal["sgd", "adamw"] = "sgd",  # SGD in the paper
        detection_weight_decay: float = 1e-4,  # of every weight; the paper does not give it
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
        super().__init__(recipe, scenes, pictures)
        self.iterations, self.accumulate = detection_iterations, recipe.accumulate
        self.lr, self.schedule, self.warmup = detection_lr, detection_schedule, detection_warmup
        # Detectron's steps: a tenth after 2/3 and after 8/9.
        self.decay_at = (-(-2 * self.iterations // 3), -(-8 * self.iterations // 9))
        self.optimizer, self.weight_decay = detection_optimizer, detection_weight_decay
        # A skipped stage reads nothing.
        more = detection_data if detection_iterations else ()
        together = [*scenes, *more_scenes(more, recipe.object_class)]
        if len(together) > len(scenes):
            pictures = PictureCache(together, recipe.cache_pictures)
        self.training_set = TrainingSet(together, pictures, scene_augmentation(recipe), recipe.seed)
        self.sampler = RandomSampler(together, recipe.images_per_iteration, recipe.seed)

    def parameters(self, model: DetectionTrained) -> list[nn.Parameter]:
        return model.detection_parameters()

    def losses(
        self, model: DetectionTrained, images: list[Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        return model.detection_losses(images, batch.targets)


def more_scenes(folders: Sequence[str], object_class: str) -> list[Scene]:
    """Read the pictures of further data sets, everyone in them unlabelled.

    The ``train`` split of a set is used, or everything if there is none.
    """
    scenes: list[Scene] = []
    for folder in folders:
        dataset = open_dataset(Path(folder))
        if dataset.object_class != object_class:
            raise RecipeError(
                f"detection_data: the boxes of {folder} hold {dataset.object_class!r}, the "
                f"recipe's object_class is {object_class!r}; leave that data set out"
            )
        # Identities of different sets mean nothing to each other.
        scenes += [
            replace(scene, ids=np.full_like(scene.ids, UNLABELLED))
            for scene in dataset.splits.get("train", dataset)
        ]
    return scenes
