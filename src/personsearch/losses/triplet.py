"""The triplet loss on Euclidean distances (Weinberger and Saul 2009; Hermans et al. 2017)."""

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.errors import TrainingError


def triplet_loss(
    embeddings: Tensor, triplets: Tensor, margin: float, squared: bool = False
) -> Tensor:
    """Return the mean of ``max(0, d(a, p) - d(a, n) + margin)`` over triplets, 0 without any.

    d is the Euclidean distance, or its square if `squared` (Schroff et al. 2015, eq. 2).

    The objective L_reid of Loesch et al. (2019, section 2), which gives no equation; with the
    triplets of `losses.mining.batch_hard` it is eq. 5 of Hermans et al. (2017), but for the mean.

    The triplets are (T, 3) int64 rows of `embeddings` (N, D): anchor, positive, negative.

    Raises:
        TrainingError: triplets of another shape.
    """
    if triplets.ndim != 2 or triplets.shape[1] != 3:
        raise TrainingError(
            f"triplets have shape {tuple(triplets.shape)}, expected (T, 3): rows of anchor, "
            "positive and negative"
        )
    with torch.autocast(embeddings.device.type, enabled=False):
        embeddings = embeddings.float()
        if not len(triplets):
            return embeddings.sum() * 0.0
        anchors, positives, negatives = embeddings[triplets].unbind(dim=1)
        near, far = _distance(anchors - positives, squared), _distance(anchors - negatives, squared)
        return functional.relu(near - far + margin).mean()


def _distance(differences: Tensor, squared: bool) -> Tensor:
    # The gradient of a norm at 0 is 0 in torch.
    return differences.pow(2).sum(1) if squared else torch.linalg.vector_norm(differences, dim=1)
