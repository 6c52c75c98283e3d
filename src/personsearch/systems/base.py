"""What every person-search system is: a module that finds everyone and says what they look like."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from personsearch.types import Detections, Target


class PersonSearchModel(nn.Module, ABC):
    """Detects everyone in whole pictures and gives each an embedding.

    Images are float32 RGB in 0..1, (3, H, W), of any size; boxes are in their pixels.

    Attributes:
        embedding_dim: D, the length of an embedding.
        confidence_weighted: whether similarity is multiplied by the gallery detection's score.
    """

    embedding_dim: int
    confidence_weighted: bool = False

    @abstractmethod
    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """The named training losses, scalars. Does not depend on the training mode.

        Args:
            images: B pictures, (3, H, W) each.
            targets: who is in each.
        """

    @abstractmethod
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Everyone in each picture, boxes in the picture's pixels, by descending score."""

    @abstractmethod
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Embeddings (N_i, D) float32 of unit length of given boxes (N_i, 4) in each picture."""
