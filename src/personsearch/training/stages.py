"""The stages of a run: what is shown, which losses it has, how long it lasts."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from personsearch.errors import RecipeError
from personsearch.systems.base import PersonSearchModel
from personsearch.training.canvases import Canvases
from personsearch.training.pairs import PairSampler
from personsearch.training.recipe import Recipe, stage_constructors
from personsearch.training.samplers import IdentitySampler, RandomSampler, SceneSampler
from personsearch.training.training_set import Batch, PictureCache, TrainingSet, load_batches
from personsearch.training.transforms import Augmentation
from personsearch.types import Scene


class Stage(ABC):
    """One stretch of a run, with an optimizer of its own.

    A stage is made of a recipe, the training scenes and their pictures, and of keyword arguments,
    which are keys of the recipe.

    Attributes:
        name: as in the log.
        recipe: what the run depends on.
        iterations: optimizer steps; a stage without is left out.
        accumulate: forward passes in each.
    """

    name: str
    recipe: Recipe
    iterations: int
    accumulate: int = 1

    def prepare(  # noqa: B027  (most stages need nothing)
        self, model: PersonSearchModel, device: torch.device, folder: Path
    ) -> None:
        """Called once before the first step, after a stop again, with the run's folder."""

    def parameters(self, model: PersonSearchModel) -> list[nn.Parameter]:
        """What the stage trains."""
        return [p for p in model.parameters() if p.requires_grad]

    def set_mode(self, model: PersonSearchModel) -> None:
        """Puts the model into training mode; a part that must not change stays in evaluation."""
        model.train()

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The stage's optimizer; the recipe's unless a stage has its own."""
        recipe = self.recipe
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay
            )
        kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, recipe.lr, weight_decay=recipe.weight_decay)

    @abstractmethod
    def batches(self, start: int, rank: int, world: int) -> Iterator[Batch]:
        """Batches from the first one of iteration `start` on, `accumulate` an iteration."""

    @abstractmethod
    def losses(
        self, model: PersonSearchModel, images: list[Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Named losses of one forward pass; `images` and the targets are on the device."""

    @abstractmethod
    def learning_rate(self, iteration: int) -> float:
        """The learning rate of an iteration, counted from zero."""


class SceneStage(Stage):
    """The main stage: whole pictures, all of the system's losses."""

    name = "scenes"

    def __init__(self, recipe: Recipe, scenes: Sequence[Scene], pictures: PictureCache) -> None:
        self.recipe = recipe
        self.iterations, self.accumulate = recipe.iterations, recipe.accumulate
        augmentation = Augmentation(
            recipe.flip, recipe.scale_jitter, recipe.color_jitter, recipe.erase
        )
        self.training_set = TrainingSet(scenes, pictures, augmentation, recipe.seed)
        size = recipe.images_per_iteration
        self.sampler: SceneSampler
        if recipe.sampler == "identity":
            self.sampler = IdentitySampler(scenes, size, recipe.seed, recipe.pictures_per_identity)
        elif recipe.sampler == "pairs":
            self.sampler = PairSampler(scenes, size, recipe.seed, recipe.pictures_per_identity)
        else:
            self.sampler = RandomSampler(scenes, size, recipe.seed)

    def batches(self, start: int, rank: int, world: int) -> Iterator[Batch]:
        """Batches of the sampler's choice."""
        size = self.recipe.images_per_iteration
        if size % world:
            raise RecipeError(
                f"images_per_iteration is {size}, expected a multiple of the {world} processes"
            )
        first, last = start * self.accumulate, self.iterations * self.accumulate
        return load_batches(
            self.training_set, self.sampler, first, last, self.recipe.loader_workers, rank, world
        )

    def losses(
        self, model: PersonSearchModel, images: list[Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """What the system itself returns."""
        losses: dict[str, Tensor] = model(images, batch.targets)
        return losses

    def learning_rate(self, iteration: int) -> float:
        """Linear warm-up, then constant, in steps, or half a cosine."""
        recipe = self.recipe
        if iteration < recipe.warmup:
            return recipe.lr * (iteration + 1) / recipe.warmup
        if recipe.schedule == "cosine":
            done = (iteration - recipe.warmup) / max(1, recipe.iterations - recipe.warmup)
            return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * done))
        passed = sum(iteration >= at for at in recipe.decay_at)
        return recipe.lr * recipe.decay_factor**passed


class CropStage(Stage):
    """The first stage: people cut out and packed onto canvases."""

    name = "crops"

    def __init__(self, recipe: Recipe, scenes: Sequence[Scene], pictures: PictureCache) -> None:
        self.recipe = recipe
        self.iterations = recipe.crop_iterations
        # A canvas is as large as the pictures usually are.
        widths, heights = zip(*(scene.size for scene in scenes), strict=True)
        size = (sorted(widths)[len(widths) // 2], sorted(heights)[len(heights) // 2])
        self.canvases = Canvases(
            scenes,
            pictures,
            size,
            recipe.crops_per_canvas,
            recipe.canvases_per_iteration,
            recipe.color_jitter,
            recipe.erase,
            recipe.flip,
            recipe.seed,
        )

    def batches(self, start: int, rank: int, world: int) -> Iterator[Batch]:
        """Canvases; each process packs its own."""
        for iteration in range(start, self.iterations):
            yield self.canvases.batch(iteration * world + rank)

    def losses(
        self, model: PersonSearchModel, images: list[Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """What the system returns for people cut out.

        Raises:
            RecipeError: the system has no such losses.
        """
        alone = getattr(model, "crop_losses", None)
        if alone is None:
            raise RecipeError(
                f"crop_iterations is {self.iterations}, but system {self.recipe.system!r} has no "
                "losses on people cut out; set crop_iterations = 0"
            )
        losses: dict[str, Tensor] = alone(images, batch.targets)
        return losses

    def parameters(self, model: PersonSearchModel) -> list[nn.Parameter]:
        """All of the system's, or those that it says it trains on people cut out."""
        own = getattr(model, "crop_parameters", None)
        return super().parameters(model) if own is None else own()

    def learning_rate(self, iteration: int) -> float:
        """A short linear warm-up, then half a cosine down to a tenth."""
        warmup = min(50, self.iterations // 10)
        if iteration < warmup:
            return self.recipe.crop_lr * (iteration + 1) / warmup
        done = (iteration - warmup) / max(1, self.iterations - warmup)
        return self.recipe.crop_lr * (0.1 + 0.45 * (1.0 + math.cos(math.pi * done)))


def make_stages(recipe: Recipe, scenes: Sequence[Scene]) -> list[Stage]:
    """The stages that a recipe asks for, in order.

    Raises:
        RecipeError: none has an iteration.
    """
    pictures = PictureCache(scenes, recipe.cache_pictures)
    stages = []
    for constructor in stage_constructors(recipe.system):
        stage: Stage = constructor(
            recipe, scenes, pictures, **recipe.keywords(constructor.__init__)
        )
        if stage.iterations:
            stages.append(stage)
    if not stages:
        raise RecipeError("every stage of the recipe has 0 iterations; nothing would be trained")
    return stages
