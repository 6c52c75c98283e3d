"""The softmax loss over all identities and the background (Xiao et al. 2016, eq. 1)."""

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.errors import TrainingError


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean of ``-log y_t`` with ``y_i = exp(x_i) / sum_j exp(x_j)`` (eq. 1); float32, a scalar.

    Args:
        logits: x (N, C + 1), background is class C.
        targets: t (N,) int64; samples below zero (unlabelled people) are left out.

    Returns:
        0 where no sample has a class.

    Raises:
        TrainingError: a target beyond the classes.
    """
    check_targets(logits, targets)
    with torch.autocast(logits.device.type, enabled=False):
        known = targets >= 0
        if not known.any():
            return logits.float().sum() * 0.0
        return functional.cross_entropy(logits.float()[known], targets[known])


def check_targets(logits: Tensor, targets: Tensor) -> None:
    """Tells of a target that `logits` (N, C + 1) have no class for.

    Raises:
        TrainingError: there is one.
    """
    if len(targets) and int(targets.max()) >= logits.shape[1]:
        raise TrainingError(
            f"class {int(targets.max())} came, the logits are of classes 0..{logits.shape[1] - 1}; "
            "renumber the training identities without gaps"
        )
