"""The first stage of Xiao et al. 2016: classifying crops before whole pictures are shown.

"First set a good initial point for the softmax classifier": a batch of crops holds many identities,
a batch of whole pictures fewer than ten (section 4.2).
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from personsearch.detectors.faster_rcnn import grid
from personsearch.errors import RecipeError
from personsearch.systems.base import Target
from personsearch.training.crops import Crops, CropSampler
from personsearch.training.recipe import Recipe
from personsearch.training.stages import LoadedStage, crop_augmentation
from personsearch.training.training_set import Batch, PictureCache
from personsearch.types import Scene


@runtime_checkable
class CropClassifier(Protocol):
    """A system whose layers can classify crops."""

    def classifier_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Named losses on crops (3, h, w) of one size, each with its box (1, 4) and id (1,)."""

    def classifier_parameters(self) -> list[nn.Parameter]:
        """Parameters that they train."""


class CropClassifierStage(LoadedStage):
    """Crops of labelled people and as many of background, the identity loss alone.

    Augmentation and optimizer are the recipe's. The paper gives the size and the batch; iterations,
    rate, its decay and the background are those of the authors' code.
    """

    name = "crop classifier"
    interface = CropClassifier
    batch_keys, size_keys = ("classifier_batch", "classifier_accumulate"), ("classifier_size",)

    def __init__(
        self,
        recipe: Recipe,
        scenes: Sequence[Scene],
        pictures: PictureCache,
        *,
        classifier_iterations: int = 0,  # optimizer steps; 0 skips the stage
        classifier_lr: float = 1e-3,  # falls to a tenth, in a step or as half a cosine (`schedule`)
        classifier_batch: int = 256,  # crops in a step, half of them background
        classifier_accumulate: int = 1,  # forward passes that share them
        classifier_size: Sequence[int] = (224, 224),  # height and width that crops are resized to
        # height and width of background crops in the picture, each times 0.5 to 2
        classifier_background: Sequence[int] = (160, 64),
        # largest surroundings around a box, as a fraction of its sides: a narrow network's map sees
        # far beyond it in whole pictures
        classifier_margin: float = 0.0,
    ) -> None:
        if classifier_iterations < 0 or classifier_lr <= 0:
            raise RecipeError(
                f"classifier_iterations is {classifier_iterations} and classifier_lr "
                f"{classifier_lr}; expected 0 or more iterations and a rate above 0"
            )
        if classifier_margin < 0:
            raise RecipeError(f"classifier_margin is {classifier_margin}, expected 0 or more")
        if classifier_accumulate < 1 or classifier_batch % (2 * classifier_accumulate):
            raise RecipeError(
                f"classifier_batch is {classifier_batch} and classifier_accumulate "
                f"{classifier_accumulate}; expected a batch that is a multiple of twice the passes"
            )
        super().__init__(recipe, scenes, pictures)
        self.start_from_crops(classifier_iterations, classifier_lr)
        if recipe.schedule != "cosine":
            # A tenth in the last third, after 20,000 of the authors' 30,000 iterations.
            self.schedule, self.warmup = "step", 0
            self.decay_at = (-(-2 * classifier_iterations // 3),)
        self.accumulate = classifier_accumulate
        self.training_set = Crops(
            scenes,
            pictures,
            crop_augmentation(recipe),
            recipe.seed,
            grid("classifier_size", classifier_size),
            grid("classifier_background", classifier_background),
            classifier_margin,
        )
        self.sampler = CropSampler(
            self.training_set, classifier_batch // classifier_accumulate, recipe.seed
        )

    def parameters(self, model: CropClassifier) -> list[nn.Parameter]:
        return model.classifier_parameters()

    def losses(
        self, model: CropClassifier, images: list[Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        return model.classifier_losses(images, batch.targets)
