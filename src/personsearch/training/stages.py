"""The interface of a training stage, and the main stage of most systems.

A run is a sequence of stages. `training.catalogue` names those of each system; `make_stages` builds
them from the recipe. Stages that only some systems have are in files of their own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from personsearch.errors import RecipeError
from personsearch.systems.base import PersonSearchModel
from personsearch.training.pairs import PairSampler
from personsearch.training.recipe import CURVED, Recipe, stage_constructors
from personsearch.training.samplers import IdentitySampler, RandomSampler, SceneSampler
from personsearch.training.training_set import Batch, PictureCache, TrainingSet, load_batches
from personsearch.training.transforms import Augmentation
from personsearch.types import Scene


class Stage(ABC):
    """One part of a run, with its own data, losses and optimizer.

    Keyword arguments of a stage's constructor are keys of the recipe. The model that the methods
    get is an instance of `interface`. `scenes` are the training scenes, `pictures` their pictures.

    Raises:
        RecipeError: a setting that contradicts another, here or in `prepare` and `batches`.
        DataError: the training set lacks what the stage needs, or cannot be read.
    """

    name: str  # in the catalogue, the log and checkpoints
    interface: type = PersonSearchModel  # what a system must implement to be trained by this stage
    iterations: int  # optimizer steps; a stage with 0 is skipped
    accumulate: int = 1  # forward passes in each
    batch_keys: Sequence[str] = ("images_per_iteration",)  # recipe keys of the batch size
    size_keys: Sequence[str] = ("max_size", "rois_per_image")  # others that memory grows with
    module: nn.Module | None = None  # trained by this stage alone; in its checkpoints
    lr: float  # see `learning_rate`, as the next five
    schedule: str = "cosine"
    warmup: int = 0
    floor: float = 0.0
    decay_at: Sequence[int] = ()
    decay_factor: float = 0.1

    def __init__(self, recipe: Recipe, scenes: Sequence[Scene], pictures: PictureCache) -> None:
        self.recipe, self.scenes, self.pictures = recipe, scenes, pictures
        self.optimizer: str = recipe.optimizer
        self.weight_decay = recipe.weight_decay
        self.bias_lr_factor, self.bias_decay = recipe.bias_lr_factor, recipe.bias_decay

    def check(self, model: PersonSearchModel) -> None:
        """Raise RecipeError unless the system implements `interface`."""
        if not isinstance(model, self.interface):
            raise RecipeError(
                f"stage {self.name!r} cannot train {type(model).__name__}, which is not a "
                f"{self.interface.__name__}; set the iterations of this stage to 0"
            )

    def prepare(  # noqa: B027  (most stages need nothing)
        self, model: Any, device: torch.device, folder: Path
    ) -> None:
        """Get ready in the run's folder; called before the first step, and again when resumed."""

    def parameters(self, model: Any) -> list[nn.Parameter]:
        """Parameters that the stage trains; all by default."""
        return trainable(model)

    def set_mode(self, model: Any) -> None:
        """Set training mode before each step; frozen parts may stay in evaluation mode."""
        model.train()

    def make_optimizer(
        self, parameters: list[nn.Parameter], biases: Iterable[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """Return the optimizer; only SGD has a momentum.

        `biases` among the parameters learn at `bias_lr_factor` times the rate, and decay if
        `bias_decay`.
        """
        groups: list[dict[str, Any]] = [{"params": parameters}]
        if self.bias_lr_factor != 1.0 or not self.bias_decay:
            apart = {id(bias) for bias in biases}
            rest = [p for p in parameters if id(p) not in apart]
            own = {"params": [p for p in parameters if id(p) in apart]}
            decay = {} if self.bias_decay else {"weight_decay": 0.0}
            groups = [{"params": rest}, {**own, "lr_factor": self.bias_lr_factor, **decay}]
        # One kernel for all parameters. On the CPU it would round otherwise than before.
        options: dict[str, Any] = {"weight_decay": self.weight_decay}
        if parameters and all(p.is_cuda for p in parameters):
            options["fused"] = True
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, self.lr, self.recipe.momentum, **options)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(groups, self.lr, **options)

    @abstractmethod
    def batches(self, start: int, rank: int, world: int) -> Iterator[Batch]:
        """Batches from iteration `start` on, `accumulate` per iteration, for one process."""

    @abstractmethod
    def losses(self, model: Any, images: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Named losses of one forward pass; `images` and the targets are on the device."""

    def learning_rate(self, iteration: int) -> float:
        """Linear warm-up to `lr`, then along the schedule.

        ``"cosine"`` is half a cosine down to `floor` times `lr`, ``"step"`` multiplies by
        `decay_factor` at each of `decay_at`, ``"constant"`` stays. ``"linear-cosine"`` multiplies
        the cosine by a line to 0, which is TensorFlow's ``linear_cosine_decay`` with its defaults
        alpha = 0 and beta = 0.001 (Bello et al. 2017).
        """
        if iteration < self.warmup:
            return self.lr * (iteration + 1) / self.warmup
        if self.schedule not in CURVED:
            return self.lr * self.decay_factor ** sum(iteration >= at for at in self.decay_at)
        done = (iteration - self.warmup) / max(1, self.iterations - self.warmup)
        cosine = 0.5 * (1.0 + math.cos(math.pi * done))
        if self.schedule == "linear-cosine":
            return self.lr * ((1.0 - done) * cosine + 0.001)
        return self.lr * (self.floor + (1.0 - self.floor) * cosine)

    def memory_settings(self) -> dict[str, object]:
        """Recipe keys that the memory of a step grows with, and their values."""
        every = self.recipe.model_dump() | self.recipe.settings
        return {key: every[key] for key in (*self.batch_keys, *self.size_keys) if key in every}

    def start_from_crops(self, iterations: int, lr: float) -> None:
        """Set the length and learning rate of a first stage: a short warm-up, down to a tenth."""
        self.iterations, self.lr = iterations, lr
        self.warmup, self.floor = min(50, iterations // 10), 0.1


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Parameters of a module that are not frozen."""
    return [p for p in module.parameters() if p.requires_grad]


def scene_augmentation(recipe: Recipe) -> Augmentation:
    """The recipe's augmentation of whole pictures."""
    return Augmentation(recipe.flip, recipe.scale_jitter, recipe.color_jitter, recipe.erase)


def crop_augmentation(recipe: Recipe) -> Augmentation:
    """The recipe's augmentation of crops, which have a scale of their own."""
    return Augmentation(recipe.flip, 0.0, recipe.color_jitter, recipe.erase)


class LoadedStage(Stage):
    """A stage whose batches are loaded from `training_set` as `sampler` chooses."""

    training_set: TrainingSet
    sampler: SceneSampler

    def batches(self, start: int, rank: int, world: int) -> Iterator[Batch]:
        size = self.sampler.batch_size
        if size % world:
            raise RecipeError(
                f"a batch has {size} pictures, expected a multiple of {world} for {world} "
                f"processes; change {' or '.join(self.batch_keys)}"
            )
        first, last = start * self.accumulate, self.iterations * self.accumulate
        return load_batches(
            self.training_set, self.sampler, first, last, self.recipe.loader_workers, rank, world
        )


class SceneStage(LoadedStage):
    """The main stage: whole pictures, all losses of the system."""

    name = "scenes"

    def __init__(self, recipe: Recipe, scenes: Sequence[Scene], pictures: PictureCache) -> None:
        super().__init__(recipe, scenes, pictures)
        self.iterations, self.accumulate = recipe.iterations, recipe.accumulate
        self.lr, self.schedule, self.warmup = recipe.lr, recipe.schedule, recipe.warmup
        self.decay_at, self.decay_factor = recipe.decay_at, recipe.decay_factor
        self.training_set = TrainingSet(scenes, pictures, scene_augmentation(recipe), recipe.seed)
        size = recipe.images_per_iteration
        if recipe.sampler == "random":
            self.sampler = RandomSampler(scenes, size, recipe.seed)
        else:
            kind = IdentitySampler if recipe.sampler == "identity" else PairSampler
            self.sampler = kind(scenes, size, recipe.seed, recipe.pictures_per_identity)

    def losses(self, model: Any, images: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = model(images, batch.targets)
        return losses


def make_stages(recipe: Recipe, scenes: Sequence[Scene]) -> list[Stage]:
    """Return the stages of a recipe that have iterations, in order; none only with `init`."""
    pictures = PictureCache(scenes, recipe.cache_pictures)
    stages = []
    for constructor in stage_constructors(recipe.system):
        stage: Stage = constructor(
            recipe, scenes, pictures, **recipe.keywords(constructor.__init__)
        )
        if stage.iterations:
            stages.append(stage)
    if not stages and not recipe.init:
        raise RecipeError("every stage of the recipe has 0 iterations; nothing would be trained")
    return stages
