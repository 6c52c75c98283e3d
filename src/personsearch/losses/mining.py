"""Mining of the hard triplets of a batch: batch-hard and semi-hard.

A triplet is an anchor, a positive (another sample of the anchor's identity) and a negative (a
sample of another person). d is the Euclidean distance of embeddings (N, D) with ids (N,) int64.
Unlabelled people (negative ids) are negatives of every anchor, but neither anchors nor positives:
they are none of the identities. Both return (T, 3) int64 rows of anchor, positive, negative, and T
may be 0.
"""

import warnings

import torch
from torch import Tensor

from personsearch.errors import TrainingError


def batch_hard(embeddings: Tensor, ids: Tensor, pictures: Tensor | None = None) -> Tensor:
    """Pair each anchor with its farthest positive and nearest negative (Hermans et al., eq. 5).

    Given the picture (N,) of each sample, positives are samples of other pictures than the
    anchor's. Triplets are sorted by anchor; anchors without a positive or without a negative are
    left out.

    Raises:
        TrainingError: shapes that disagree.
    """
    distances, same, other = _pairs(embeddings, ids)
    if pictures is not None:
        same = same & (pictures[:, None] != pictures)
    anchors = torch.where(same.any(dim=1) & other.any(dim=1))[0]
    if not len(anchors):
        return ids.new_zeros((0, 3))
    distances = distances[anchors]
    positives = distances.masked_fill(~same[anchors], -1.0).argmax(dim=1)
    negatives = distances.masked_fill(~other[anchors], torch.inf).argmin(dim=1)
    return torch.stack([anchors, positives, negatives], dim=1)


def semi_hard(embeddings: Tensor, ids: Tensor, margin: float | None = None) -> Tensor:
    """Pair each pair of one identity with the nearest negative farther than its positive.

    If no negative is farther, its farthest one is taken. Every pair is in the mean of the loss, as
    in TensorFlow's ``triplet_semihard_loss``, the published implementation of semi-hard mining
    (Schroff et al. 2015, section 3.2; Song et al. 2017, section 4): with ``squared=True``,
    `losses.triplet.triplet_loss` of these triplets is its value.

    Triplets are sorted by anchor, then positive; pairs without any negative are left out. `margin`
    is deprecated and has no effect: negatives beyond the margin have a loss of 0.

    Raises:
        TrainingError: shapes that disagree.
    """
    if margin is not None:
        message = "semi_hard: margin has no effect any more; give it to triplet_loss alone"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    distances, same, other = _pairs(embeddings, ids)
    anchors, positives = torch.where(same & other.any(dim=1, keepdim=True))
    if not len(anchors):
        return ids.new_zeros((0, 3))
    far, negatives = distances[anchors], other[anchors]
    farther = negatives & (far > distances[anchors, positives][:, None])
    nearest = far.masked_fill(~farther, torch.inf).argmin(dim=1)
    farthest = far.masked_fill(~negatives, -1.0).argmax(dim=1)
    chosen = torch.where(farther.any(dim=1), nearest, farthest)
    return torch.stack([anchors, positives, chosen], dim=1)


def _pairs(embeddings: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return distances and masks of positives and negatives, (N, N) each, anchors in rows."""
    if embeddings.ndim != 2 or ids.shape != embeddings.shape[:1]:
        raise TrainingError(
            f"embeddings have shape {tuple(embeddings.shape)} and ids {tuple(ids.shape)}, "
            "expected (N, D) and (N,)"
        )
    with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
        points = embeddings.detach().float()
        # By matrix products near points lose half of their digits.
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    labelled = (ids >= 0)[:, None]
    equal = ids[:, None] == ids[None, :]
    itself = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
    return distances, equal & labelled & ~itself, ~equal & labelled
