"""The softmax loss over all identities and the background (Xiao et al. 2016, eq. 1)."""

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.losses.identities import check_ids


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of ``-log y_t``, ``y_i = exp(x_i) / sum_j exp(x_j)`` (eq. 1), in float32.

    The logits x are (N, C + 1) with background in class C. Samples with `targets` t (N,) below zero
    (unlabelled people) add nothing, but count in the average, as in the authors' code.

    Raises:
        TrainingError: a target is out of range.
    """
    check_ids(targets, logits.shape[1], "the classifier")
    with torch.autocast(logits.device.type, enabled=False):
        labels = targets.clamp(min=-1)
        total = functional.cross_entropy(logits.float(), labels, ignore_index=-1, reduction="sum")
        return total / max(len(targets), 1)
