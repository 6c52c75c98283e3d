"""The softmax loss over all identities and the background (Xiao et al. 2016, eq. 1)."""

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.losses.identities import check_ids


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of ``-log y_t``, ``y_i = exp(x_i) / sum_j exp(x_j)`` (eq. 1), in float32.

    The logits x are (N, C + 1) with background in class C. Samples with `targets` t (N,) below zero
    (unlabelled people) are left out, and without any other the loss is 0.

    Raises:
        TrainingError: a target is out of range.
    """
    check_ids(targets, logits.shape[1], "the classifier")
    with torch.autocast(logits.device.type, enabled=False):
        known = targets >= 0
        if not known.any():
            return logits.float().sum() * 0.0
        return functional.cross_entropy(logits.float()[known], targets[known])
