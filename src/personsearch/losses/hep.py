"""The hard example priority loss of I-Net, and its pool of priority classes (Zhang et al. 2019)."""

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.losses.identities import check_ids


def hard_example_priority_loss(logits: Tensor, targets: Tensor, priority_classes: Tensor) -> Tensor:
    """Return HEP, cross-entropy over the classes of the pool P alone; 0 without labels.

        L = -1/n sum_i sum_{j in P} 1(label_i = j) log(exp s_ij / sum_{t in P} exp s_it)   (eq. 5)

    The logits s are (N, C + 1) with background in class C, P is (T,) int64, distinct. Unlabelled
    people (negative `targets`) are not counted in n; a class outside of P adds nothing to the sum.

    Raises:
        TrainingError: a target is out of range.
    """
    check_ids(targets, logits.shape[1], "the classifier")
    with torch.autocast(logits.device.type, enabled=False):
        return cross_entropy_in_pool(
            logits.float()[:, priority_classes], targets, priority_classes, logits.shape[1]
        )


def cross_entropy_in_pool(
    scores: Tensor, targets: Tensor, priority_classes: Tensor, num_classes: int
) -> Tensor:
    """Return the sums of eq. 5 and eq. 9, given scores (N, T) of the pool's classes."""
    labelled = targets >= 0
    if not labelled.any():
        return scores.sum() * 0.0
    place = torch.full((num_classes,), -1, dtype=torch.int64, device=targets.device)
    place[priority_classes] = torch.arange(len(priority_classes), device=targets.device)
    return (
        functional.cross_entropy(
            scores[labelled], place[targets[labelled]], ignore_index=-1, reduction="sum"
        )
        / labelled.sum()
    )


def select_priority_classes(
    labels: Tensor,  # ids of the batch; negative ids have no class
    hard_labels: Tensor,  # ids of the hardest negatives, the most important first
    num_classes: int,  # how many classes there are
    count: int,  # T, the size of the pool; all classes are in it if there are fewer
    generator: torch.Generator | None = None,  # of the random classes, on the CPU
) -> Tensor:
    """Return the pool P of priority classes (section 3.3, figure 4).

    1. The classes that are present. All of them are in the pool, also where they exceed T: without
       its own class a sample would add nothing to eq. 5.
    2. The classes of the hardest negatives, until the pool holds T.
    3. Random classes, until the pool holds T.

    Returns:
        (max(min(T, `num_classes`), classes present),) int64, distinct, in order of priority.
    """
    if count >= num_classes:
        return torch.arange(num_classes, device=labels.device)
    present = labels[labels >= 0].unique().tolist()
    hard = hard_labels[hard_labels >= 0].tolist()
    # On the CPU, so that every device draws the same classes.
    others = torch.randperm(num_classes, generator=generator).tolist()
    pool = list(dict.fromkeys([*present, *hard, *others]))[: max(count, len(present))]
    return torch.tensor(pool, dtype=torch.int64, device=labels.device)


@torch.no_grad()
def hardest_labels(
    anchors: Tensor,  # (M, D), unit length
    negatives: Tensor,  # (K, D), unit length
    labels: Tensor,  # (K,) int64, the negatives' ids
    valid: Tensor,  # (M, K) bool, whether each is a negative of each anchor
    hardest: int,  # r, negatives of each anchor
) -> Tensor:
    """Return the ids of each anchor's `hardest` negatives, each anchor's hardest first.

    The hardest are the most similar: the paper's largest d, a cosine (section 3.3).

    Returns:
        (L,) int64 with L at most M r, with repetitions; ids of unlabelled people are negative.
    """
    most = min(hardest, len(negatives))
    similarity = (anchors.detach().float() @ negatives.float().t()).masked_fill(~valid, -torch.inf)
    values, rows = similarity.topk(most, dim=1)
    return labels[rows.t()[values.t() > -torch.inf]]
