"""A re-identification network on crops: A re-identification network on crops, which RDLR uses.

crop -> trunk C1 to C5 -> average -> embedding -> a classifier of the training identities.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Trunk
from personsearch.detectors.weights import IMAGENET_MEAN, IMAGENET_STD
from personsearch.losses.cosine_softmax import CosineSoftmax
from personsearch.losses.identities import check_ids


class ReidNetwork(nn.Module):
    """Unit embeddings of crops, and the softmax loss of their identities."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: Trunk,  # ResNet-50's in the paper; the network starts with copies of its blocks
        num_ids: int,  # labelled identities in the training set
        embedding_dim: int = 0,  # D, the length of an embedding; 0 takes the average as it is
        classifier: Literal["linear", "cosine"] = "linear",  # linear: before they have unit length
    ) -> None:
        super().__init__()
        self.blocks, self.cells = nn.Sequential(*trunk.copies().values()), trunk.cells
        width = trunk.channels["C5"] * math.prod(self.cells)
        self.embedding_dim = embedding_dim or width
        self.embedder = nn.Linear(width, embedding_dim) if embedding_dim else nn.Identity()
        self.classifier: nn.Linear | CosineSoftmax = (
            CosineSoftmax(num_ids, self.embedding_dim)
            if classifier == "cosine"
            else nn.Linear(self.embedding_dim, num_ids)
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        """Return embeddings (R, D), not of unit length, of `crops` (R, 3, h, w) in 0..1."""
        if not len(crops):
            return crops.new_zeros((0, self.embedding_dim))
        maps = self.blocks((crops - self.mean) / self.std)
        averaged = functional.adaptive_avg_pool2d(maps, self.cells).flatten(1)
        embeddings: Tensor = self.embedder(averaged).float()
        return embeddings

    def embed(self, crops: Tensor) -> Tensor:
        """Return unit embeddings (R, D) of `crops`; gradients reach the crops."""
        return functional.normalize(self(crops), dim=1)

    def softmax_loss(self, features: Tensor, ids: Tensor) -> Tensor:
        """Return the cross-entropy of features (R, D) of `forward` with ids (R,) >= 0, or 0.

        Raises:
            TrainingError: an id is out of range.
        """
        if isinstance(self.classifier, CosineSoftmax):
            loss: Tensor = self.classifier(functional.normalize(features, dim=1), ids)
            return loss
        check_ids(ids, self.classifier.out_features, "the classifier")
        labelled = ids >= 0
        if not labelled.any():
            return features.sum() * 0.0
        with torch.autocast(features.device.type, enabled=False):
            return functional.cross_entropy(
                self.classifier(features[labelled].float()), ids[labelled]
            )
