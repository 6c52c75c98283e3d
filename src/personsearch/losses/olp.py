"""The online pairing loss of I-Net and DC-I-Net (Zhang et al. 2019, section 3.2)."""

import torch
from torch import Tensor
from torch.nn import functional

# exp of it is 0 in float32, and unlike minus infinity it leaves the gradients of sums of nothing
# defined.
_NOTHING = -1e4


def online_pairing_loss(
    anchors: Tensor,  # x_a (M, D), unit length
    positives: Tensor,  # x_p (M, D), of the anchor's identity
    negatives: Tensor,  # x_n (K, D) for all anchors, or (M, K, D)
    valid: Tensor | None = None,  # (M, K) bool: is it a negative of the anchor? None: all are
    scale: float = 1.0,  # of d; 1 in the paper
) -> Tensor:
    """Return OLP, cross-entropy of a positive pair against negative ones; 0 without either.

    With d the inner product of unit embeddings, which is their cosine, over m subgroups,

        L = -1/m sum_i log(exp d(a_i, p_i) / (exp d(a_i, p_i) + sum_k exp d(a_i, n_ik)))   (eq. 1)

    As in the paper only the anchor learns; m times the derivative in anchor a_i is

        (q_i - 1) p_i + sum_k q'_ik n_ik                                                   (eq. 2)

    with q_i and q'_ik the softmax's shares of the positive and of each negative (eq. 3, 4).
    """
    with torch.autocast(anchors.device.type, enabled=False):
        anchors = anchors.float()
        if not len(anchors):
            return anchors.sum() * 0.0
        near = scale * (anchors * positives.detach().float()).sum(dim=1)
        far = _log_sum_negatives(anchors, negatives, valid, scale)
        # -log(e^near / (e^near + e^far)) = log(1 + e^(far - near))
        return functional.softplus(far - near).mean()


def paired_rows_loss(
    embeddings: Tensor,  # (N, D), unit length
    pairs: tuple[Tensor, Tensor],  # rows (M,) of anchors and rows (M,) of their positives
    negatives: Tensor,  # (K, D)
    valid: Tensor,  # (N, K) bool, whether each is a negative of each row
    scale: float = 1.0,  # of d; 1 in the paper
) -> Tensor:
    """Return OLP of rows of one batch, where an anchor may have several positives.

    Equals ``online_pairing_loss(embeddings[a], embeddings[p], negatives, valid[a], scale)`` for
    pairs (a, p), but compares an anchor with its negatives once, not once for every positive.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        embeddings = embeddings.float()
        anchors, positives = pairs
        if not len(anchors):
            return embeddings.sum() * 0.0
        near = scale * (embeddings[anchors] * embeddings.detach()[positives]).sum(dim=1)
        rows, place = anchors.unique(return_inverse=True)
        far = _log_sum_negatives(embeddings[rows], negatives, valid[rows], scale)
        return functional.softplus(far[place] - near).mean()


def pairs_across_pictures(ids: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (M,) of anchors and of positives: one identity in two pictures, both ways round.

    Each unordered pair is two subgroups, either member an anchor in turn (section 3.2). Unlabelled
    people are in no pair; `pictures` (N,) says which picture each row is from.
    """
    same = (ids[:, None] == ids) & (ids >= 0)[:, None] & (pictures[:, None] != pictures)
    anchors, positives = torch.where(same)
    return anchors, positives


def _log_sum_negatives(
    anchors: Tensor, negatives: Tensor, valid: Tensor | None, scale: float
) -> Tensor:
    """Return (M,) log sum_k exp d(a_i, n_ik), `_NOTHING` if an anchor has no negatives."""
    negatives = negatives.detach().float()
    if negatives.ndim == 2:
        far = scale * anchors @ negatives.t()
    else:
        far = scale * torch.einsum("md,mkd->mk", anchors, negatives)
    if valid is not None:
        far = far.masked_fill(~valid, _NOTHING)
    return torch.cat([far, far.new_full((len(far), 1), _NOTHING)], dim=1).logsumexp(dim=1)
