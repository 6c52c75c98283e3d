"""The class-center guided hard example priority loss of DC-I-Net (Zhang et al. 2019, 4.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.losses.hep import cross_entropy_in_pool
from personsearch.losses.identities import check_ids


def class_center_hep_loss(
    embeddings: Tensor,  # x (N, D)
    # (N,) int64, negative for unlabelled people, who have no class and are not counted in n. A
    # class outside of P adds nothing to the sum.
    targets: Tensor,
    centers: Tensor,  # c (C, D), of any length; one that is zero is equally far from everyone
    priority_classes: Tensor,  # P (T,) int64, distinct
    scale: float = 10.0,  # lambda
) -> Tensor:
    """Return C2HEP, a softmax over cosines to the centers of the pool P; 0 without labels.

        p_j = exp(lambda d(x, c_j)) / sum_{c in P} exp(lambda d(x, c_c))                   (eq. 8)
        L = -1/n sum_i sum_{j in P} 1(label_i = j) log p_j                                 (eq. 9)

    The gradient reaches the embeddings only: centers are a memory, moved by eq. 7.

    Raises:
        TrainingError: a target is out of range.
    """
    check_ids(targets, len(centers), "the table of class centers")
    with torch.autocast(embeddings.device.type, enabled=False):
        directions = functional.normalize(centers.detach()[priority_classes].float(), dim=1)
        cosines = functional.normalize(embeddings.float(), dim=1) @ directions.t()
        return cross_entropy_in_pool(scale * cosines, targets, priority_classes, len(centers))


class ClassCenters(nn.Module):
    """The center of each identity's embeddings; zero before the first embedding."""

    values: Tensor

    def __init__(self, num_ids: int, dim: int, momentum: float = 0.5) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("values", torch.zeros(num_ids, dim))

    @torch.no_grad()
    def update(self, embeddings: Tensor, ids: Tensor) -> None:
        """Move centers by ``c <- phi c + (1 - phi) x`` (eq. 7), one sample after the other.

        Here phi is `momentum` and x (N, D) are `embeddings`; negative `ids` (N,) are left out.
        """
        for embedding, row in zip(embeddings.float(), ids.tolist(), strict=True):
            if row >= 0:
                self.values[row] = (
                    self.momentum * self.values[row] + (1.0 - self.momentum) * embedding
                )
