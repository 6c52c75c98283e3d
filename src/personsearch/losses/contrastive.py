"""The contrastive loss (Hadsell et al. 2006), which I-Net's losses are compared with."""

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.errors import TrainingError


def contrastive_loss(
    embeddings: Tensor, ids: Tensor, margin: float = 1.0, pictures: Tensor | None = None
) -> Tensor:
    """Pull pairs of one identity together, push others a margin apart; 0 without pairs.

    With d the Euclidean distance of embeddings (N, D) and m the margin, the mean over all pairs of

        1/2 d^2                      where both show the same identity,
        1/2 max(0, m - d)^2          where they do not                    (Hadsell et al., eq. 4)

    Unlabelled people (negative `ids`) are none of the identities: they make pairs with labelled
    people, none with each other. Given the picture (N,) of each sample, samples of one identity in
    one picture are no pair.

    Raises:
        TrainingError: shapes that disagree.
    """
    if embeddings.ndim != 2 or ids.shape != embeddings.shape[:1]:
        raise TrainingError(
            f"embeddings have shape {tuple(embeddings.shape)} and ids {tuple(ids.shape)}, "
            "expected (N, D) and (N,)"
        )
    with torch.autocast(embeddings.device.type, enabled=False):
        embeddings = embeddings.float()
        one, other = torch.triu_indices(len(ids), len(ids), 1, device=ids.device)
        known = (ids[one] >= 0) | (ids[other] >= 0)
        if pictures is not None:
            known &= (ids[one] != ids[other]) | (pictures[one] != pictures[other])
        one, other = one[known], other[known]
        if not len(one):
            return embeddings.sum() * 0.0
        # The gradient of a norm at 0 is 0 in torch.
        distances = torch.linalg.vector_norm(embeddings[one] - embeddings[other], dim=1)
        apart = functional.relu(margin - distances)
        return 0.5 * torch.where(ids[one] == ids[other], distances, apart).square().mean()
