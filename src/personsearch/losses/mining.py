"""Mining of the hard triplets of a batch: batch-hard and semi-hard.

A triplet is an anchor, a positive (another sample of the anchor's identity) and a negative (a
sample of another person). d is the Euclidean distance of embeddings (N, D) with ids (N,) int64.
Unlabelled people (negative ids) are negatives of every anchor, but neither anchors nor positives:
they are none of the identities. Both return (T, 3) int64 rows of anchor, positive, negative, and T
may be 0.
"""

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


def semi_hard(embeddings: Tensor, ids: Tensor, margin: float) -> Tensor:
    """Pair each pair of one identity with the nearest negative farther than its positive.

    Semi-hard negatives have ``d(a, p) < d(a, n) < d(a, p) + margin``: they violate the margin, yet
    are on the right side, which keeps the embeddings from collapsing into one point (Schroff et al.
    2015, section 3.2; Song et al. 2017, section 4).

    Triplets are sorted by anchor, then positive; pairs without a semi-hard negative are left out.

    Raises:
        TrainingError: shapes that disagree.
    """
    distances, same, other = _pairs(embeddings, ids)
    anchors, positives = torch.where(same)
    if not len(anchors):
        return ids.new_zeros((0, 3))
    near = distances[anchors, positives][:, None]
    far = distances[anchors]
    fits = other[anchors] & (far > near) & (far < near + margin)
    negatives = far.masked_fill(~fits, torch.inf).argmin(dim=1)
    return torch.stack([anchors, positives, negatives], dim=1)[fits.any(dim=1)]


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
