"""The contract of every person-search system, and the labels that it is trained with."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn

from personsearch.detectors.folding import fold_norm
from personsearch.detectors.memory_format import channels_together
from personsearch.errors import DataError
from personsearch.precision import Precision, autocast, chosen_precision
from personsearch.types import Detections

_log = logging.getLogger(__name__)

Metric = Literal["cosine", "euclidean"]
"""What embeddings are compared by: those of ``"cosine"`` have unit length; see
`evaluation.gallery.METRICS`.
"""


@dataclass(frozen=True, eq=False)
class Target:
    """The people in a training picture, on the network's device.

    Raises:
        DataError: on shapes that disagree.
    """

    boxes: torch.Tensor  # (N, 4) float32 tensor
    ids: torch.Tensor  # (N,) int64 tensor, `UNLABELLED` for people without an identity

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise DataError(f"target: boxes have shape {tuple(self.boxes.shape)}, expected (N, 4)")
        if self.ids.shape != self.boxes.shape[:1]:
            raise DataError(
                f"target: {len(self.boxes)} boxes but ids of shape {tuple(self.ids.shape)}"
            )

    def to(self, device: torch.device | str) -> "Target":
        """Return the same target on another device."""
        return Target(self.boxes.to(device), self.ids.to(device))


class PersonSearchModel(nn.Module, ABC):
    """Detect people in whole pictures and embed each.

    Images are float32 RGB in 0..1, (3, H, W), of any size; boxes are in their pixels.
    """

    embedding_dim: int  # D, the length of an embedding
    confidence_weighted: bool = False  # multiply similarity by the detection's score
    metric: Metric = "cosine"  # what embeddings are compared by
    # of a form for inference: what its convolutions compute in; None in a model to be trained
    inference_precision: Precision | None = None

    @abstractmethod
    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the named training losses, scalars, in training and evaluation mode alike."""

    @abstractmethod
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Return the people in each picture, in its own pixels, by descending score."""

    @abstractmethod
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Return embeddings (N_i, D), float32, of given boxes (N_i, 4) in each picture."""

    def for_inference(self, precision: str = "auto") -> Self:
        """Return a copy that detects and embeds the same to rounding, but faster.

        Batch normalisation is folded into the convolutions before it, and channels lie together in
        memory. The copy cannot be trained. A model that is such a copy is returned as it is.

        Args:
            precision: see `precision.autocast`.

        Raises:
            RecipeError: another precision.
        """
        if self.inference_precision:
            return self
        model = deepcopy(self).eval().requires_grad_(False)
        fold_norm(model)
        channels_together(model)
        device = device_of(self)
        chosen = model.inference_precision = chosen_precision(device, precision)
        if not self.training:  # a model in training is validated many times
            _log.info("%s: computes in %s on %s", type(self).__name__, chosen, device)
        if chosen == "bfloat16":
            for part in model.bfloat16_parts():
                for module in part.modules():
                    if isinstance(module, nn.Conv2d):
                        module.to(torch.bfloat16)
        return model

    def bfloat16_parts(self) -> Sequence[nn.Module]:
        """Return the parts whose convolutions may be kept in bfloat16, not just run in it."""
        return [self]

    def autocast(self) -> torch.autocast:
        """Return the context in which `detect` and `embed` of a form for inference run."""
        return autocast(device_of(self), self.inference_precision or "float32")


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's weights; the CPU if it has none."""
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))


def split_targets(targets: Sequence[Target]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the boxes and the ids of each target."""
    return [t.boxes.float() for t in targets], [t.ids for t in targets]


def move_sides(boxes: Tensor, moves: Tensor) -> Tensor:
    """Move each side of boxes (N, 4) by a share (N, 4) of the box's width or height."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + moves * sides
