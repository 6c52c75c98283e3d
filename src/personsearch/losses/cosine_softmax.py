"""Softmax over the cosines to one learned direction an identity (Wang et al. 2017, NormFace)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.losses.identities import check_ids


class CosineSoftmax(nn.Module):
    """Cross-entropy of ``scale * cos(x, w_j)`` over the identities j (NormFace, eq. 6).

    From random weights it learns faster than a lookup table, whose rows are then averages of
    meaningless embeddings.
    """

    def __init__(self, num_ids: int, dim: int, scale: float = 16.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_ids, dim))
        nn.init.normal_(self.weight, std=0.05)

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """Return the mean loss of unit embeddings (N, D) with ids (N,) >= 0; 0 without any.

        Raises:
            TrainingError: an id is out of range.
        """
        check_ids(ids, len(self.weight), "the classifier")
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.float()
            labelled = ids >= 0
            if not labelled.any():
                return embeddings.sum() * 0.0
            cosines = embeddings[labelled] @ functional.normalize(self.weight, dim=1).t()
            return functional.cross_entropy(self.scale * cosines, ids[labelled])
