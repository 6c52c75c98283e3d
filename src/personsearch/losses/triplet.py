"""The triplet loss on Euclidean distances (Weinberger and Saul 2009; Hermans et al. 2017)."""

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.errors import TrainingError


def triplet_loss(embeddings: Tensor, triplets: Tensor, margin: float) -> Tensor:
    """Return the mean of ``max(0, d(a, p) - d(a, n) + margin)`` over triplets, 0 without any.

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
        # The gradient of a norm at 0 is 0 in torch.
        near = torch.linalg.vector_norm(anchors - positives, dim=1)
        far = torch.linalg.vector_norm(anchors - negatives, dim=1)
        return functional.relu(near - far + margin).mean()
