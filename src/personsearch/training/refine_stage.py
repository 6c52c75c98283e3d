"""RDLR's refinement: whole pictures, a frozen re-ID network, and the detector's weights alone."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from personsearch.errors import RecipeError
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.rdlr import RDLR
from personsearch.training.checkpoint import load_tensors
from personsearch.training.recipe import Recipe
from personsearch.training.stages import SceneStage
from personsearch.training.training_set import PictureCache
from personsearch.types import Scene


class RefineStage(SceneStage):
    """The main stage of RDLR.

    Args:
        recipe: what the run depends on.
        scenes: the training scenes.
        pictures: theirs.

        reid_init: checkpoint whose re-ID network is taken instead of the one that this run
            trained; of another data set, too (figure 6, c and d).

    Raises:
        RecipeError: a system without a re-ID network of its own, or one that does not fit.
    """

    name = "refinement"

    def __init__(
        self,
        recipe: Recipe,
        scenes: Sequence[Scene],
        pictures: PictureCache,
        *,
        reid_init: str = "",
    ) -> None:
        super().__init__(recipe, scenes, pictures)
        self.reid_init = reid_init

    def prepare(self, model: PersonSearchModel, device: torch.device, folder: Path) -> None:
        """Loads the other run's re-ID network; it is frozen, so a second time changes nothing."""
        if not self.reid_init:
            return
        reid, prefix = _refined(model).reid, "reid."
        saved = {
            name.removeprefix(prefix): tensor
            for name, tensor in load_tensors(Path(self.reid_init)).items()
            if name.startswith(prefix)
        }
        own = reid.state_dict()
        wrong = [
            name
            for name, tensor in own.items()
            if name not in saved or saved[name].shape != tensor.shape
        ]
        others = [name for name in wrong if not name.startswith("classifier.")]
        if others:
            came = tuple(saved[others[0]].shape) if others[0] in saved else "nothing"
            raise RecipeError(
                f"reid_init: the re-ID network in {self.reid_init} does not fit: {others[0]} is "
                f"{came}, expected {tuple(own[others[0]].shape)}; use one with the same backbone, "
                "reid_dim and reid_grid"
            )
        if wrong and "softmax" in _refined(model).reid_losses:
            raise RecipeError(
                f"reid_init: the re-ID network in {self.reid_init} knows other identities than "
                "this data set; set reid_loss = 'proxy_triplet'"
            )
        reid.load_state_dict({k: v for k, v in saved.items() if k not in wrong}, strict=False)

    def parameters(self, model: PersonSearchModel) -> list[nn.Parameter]:
        """The detector's."""
        return _refined(model).detection_parameters()


def _refined(model: PersonSearchModel) -> RDLR:
    if not isinstance(model, RDLR):
        raise RecipeError(f"{type(model).__name__} has no re-ID network that could refine boxes")
    return model
