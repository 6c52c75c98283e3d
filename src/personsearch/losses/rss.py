"""Random sampling softmax, the loss of Xiao et al. 2016 (section 4.2)."""

import torch
from torch import Tensor

from personsearch.distributed import all_rows
from personsearch.errors import TrainingError
from personsearch.losses.identities import check_ids
from personsearch.losses.softmax import softmax_loss


def random_sampling_softmax(
    logits: Tensor,  # x (N, C + 1), background is class C
    targets: Tensor,  # (N,) int64; below zero for unlabelled people
    num_sampled: int = 100,  # K; from C + 1 on this is the softmax over all classes
    # of the draw, on its own device; None: torch's, on the device of `logits`
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return RSS, the mean softmax loss of samples over K classes of their own.

        l~ = -sum_i t~_i log y~_i,  y~_i = exp(x~_i) / sum_j exp(x~_j),  i, j = 1..K   (eq. 2)

    where x~ and t~ are the scores and the label of the classes that `sample_classes` draws. A batch
    shows few people; over all classes, each step would push down thousands of absent ones. Samples
    without a class add nothing, but count in the average, as in the authors' layer.

    Raises:
        TrainingError: a target is out of range, or K is below 2.
    """
    check_ids(targets, logits.shape[1], "the classifier")
    if num_sampled < 2:
        raise TrainingError(
            f"num_sampled is {num_sampled}, expected at least 2: the label and the background"
        )
    if num_sampled >= logits.shape[1]:
        return softmax_loss(logits, targets)
    classes = sample_classes(targets.clamp(min=0), logits.shape[1], num_sampled, generator)
    # The label is the first of the drawn classes.
    return softmax_loss(logits.gather(1, classes), targets.clamp(max=0))


def sample_classes(
    targets: Tensor,  # c (N,) int64, 0..C
    num_classes: int,  # C + 1
    count: int,  # K, 2..C + 1
    # of the draw; None: torch's, on the device of `targets`
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the indices i_1..i_K of each sample, by the paper's three rules.

    i_1 is the label c. If c is an identity, i_2 is the background. The others are drawn from the
    remaining identities, uniformly and each at most once.

    Returns:
        (N, K) int64 on the device of `targets`.
    """
    device = generator.device if generator else targets.device
    # The K largest of independent uniform keys are a uniform draw without repetition.
    # Several processes draw for the rows of all, as one would.
    total, own = all_rows(len(targets))
    keys = torch.rand(total, num_classes, generator=generator, device=device)[own]
    keys = keys.to(targets.device)
    keys[:, -1] = 2.0
    keys.scatter_(1, targets[:, None], 3.0)
    return keys.topk(count, dim=1).indices
