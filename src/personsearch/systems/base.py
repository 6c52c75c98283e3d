"""The contract of every person-search system, and the labels that it is trained with."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from personsearch.errors import DataError
from personsearch.types import Detections

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

    @abstractmethod
    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the named training losses, scalars, in training and evaluation mode alike."""

    @abstractmethod
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Return the people in each picture, in its own pixels, by descending score."""

    @abstractmethod
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Return embeddings (N_i, D), float32, of given boxes (N_i, 4) in each picture."""


def split_targets(targets: Sequence[Target]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the boxes and the ids of each target."""
    return [t.boxes.float() for t in targets], [t.ids for t in targets]


def move_sides(boxes: Tensor, moves: Tensor) -> Tensor:
    """Move each side of boxes (N, 4) by a share (N, 4) of the box's width or height."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + moves * sides
