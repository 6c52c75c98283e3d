"""RDLR's refinement: whole pictures, a frozen re-ID network, and the detector's weights alone."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from personsearch.errors import RecipeError
from personsearch.systems.rdlr import RDLR
from personsearch.training.checkpoint import load_tensors
from personsearch.training.recipe import Recipe
from personsearch.training.stages import SceneStage
from personsearch.training.training_set import PictureCache
from personsearch.types import Scene


class RefineStage(SceneStage):
    """The main stage of RDLR.

    `reid_init` is a checkpoint whose re-ID network replaces the one that this run trained; it may
    come from another data set (figure 6, c and d).
    """

    name = "refinement"
    interface = RDLR

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

    def prepare(self, model: RDLR, device: torch.device, folder: Path) -> None:
        """Load the other run's re-ID network; it is frozen, so loading it twice is harmless."""
        if not self.reid_init:
            return
        reid, prefix = model.reid, "reid."
        saved = {
            name.removeprefix(prefix): tensor
            for name, tensor in load_tensors(Path(self.reid_init)).items()
            if name.startswith(prefix)
        }
        own = reid.state_dict()
        wrong = [k for k, v in own.items() if k not in saved or saved[k].shape != v.shape]
        others = [name for name in wrong if not name.startswith("classifier.")]
        if others:
            came = tuple(saved[others[0]].shape) if others[0] in saved else "nothing"
            raise RecipeError(
                f"reid_init: the re-ID network in {self.reid_init} does not fit: {others[0]} is "
                f"{came}, expected {tuple(own[others[0]].shape)}; use one with the same backbone, "
                "reid_dim and embedding_grid"
            )
        if wrong and "softmax" in model.reid_losses:
            raise RecipeError(
                f"reid_init: the re-ID network in {self.reid_init} knows other identities than "
                "this data set; set reid_loss = 'proxy_triplet'"
            )
        reid.load_state_dict({k: v for k, v in saved.items() if k not in wrong}, strict=False)

    def parameters(self, model: RDLR) -> list[nn.Parameter]:
        return model.detection_parameters()
