"""Non-maximum suppression: of boxes that overlap more than a limit, the best are kept.

torchvision decides box after box in one thread. Here blocks of boxes are decided together: within a
block a fixed point is sought (a box is kept if no better one that overlaps it is), which settles
after as many rounds as the longest chain of boxes that suppress each other, then the block
suppresses all the rest at once. The set is the same.
"""

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

_FEW = 5000
"""Up to so many boxes of a picture torchvision is as fast."""


def suppress(
    boxes: Tensor,  # (B, N, 4) of B pictures
    scores: Tensor,  # (B, N)
    valid: Tensor,  # (B, N) bool; others are not there
    iou: float,  # above it the weaker of two is dropped
    most: int,  # keep at most so many of a picture, the best
    groups: Tensor | None = None,  # (B, N) int64; boxes of two groups do not suppress each other
) -> list[Tensor]:
    """Return the rows (K_i,) of each picture's boxes that are kept, best first."""
    if boxes.shape[1] <= _FEW:
        kept = []
        for i in range(len(boxes)):
            rows = torch.where(valid[i])[0]
            b, s = boxes[i, rows], scores[i, rows]
            best = nms(b, s, iou) if groups is None else batched_nms(b, s, groups[i, rows], iou)
            kept.append(rows[best[:most]])
        return kept
    if boxes.device.type == "cuda":
        return suppress_blocks(boxes, scores, valid, iou, most, groups, block=1024)
    # One picture keeps all cores busy, and each stops when it has enough.
    kept = []
    for i in range(len(boxes)):
        own = slice(i, i + 1)
        group = None if groups is None else groups[own]
        kept += suppress_blocks(boxes[own], scores[own], valid[own], iou, most, group)
    return kept


def suppress_blocks(
    boxes: Tensor,
    scores: Tensor,
    valid: Tensor,
    iou: float,
    most: int,
    groups: Tensor | None = None,
    block: int = 128,
) -> list[Tensor]:
    """Do as `suppress`, block after block of `block` boxes, in all pictures at once."""
    order = scores.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
    boxes = boxes.gather(1, order[..., None].expand_as(boxes))
    kept = valid.gather(1, order)
    groups = None if groups is None else groups.gather(1, order)
    for start in range(0, boxes.shape[1], block):
        end = min(start + block, boxes.shape[1])
        own, alive = boxes[:, start:end], kept[:, start:end]
        above = _overlaps(own, own, iou)
        if groups is not None:
            above &= groups[:, start:end, None] == groups[:, None, start:end]
        above = above.triu_(1).float()
        before, settled = None, alive
        while before is None or not torch.equal(before, settled):
            before = settled
            settled = alive & (before[:, None].float() @ above == 0).squeeze(1)
        kept[:, start:end] = settled
        if end == boxes.shape[1] or kept[:, :end].sum(1).min() >= most:
            break
        chosen = settled.float().topk(int(settled.sum(1).max()), 1)
        best = own.gather(1, chosen.indices[..., None].expand(-1, -1, 4))
        taken = _overlaps(best, boxes[:, end:], iou)
        if groups is not None:
            group = groups[:, start:end].gather(1, chosen.indices)
            taken &= group[..., None] == groups[:, None, end:]
        kept[:, end:] &= ~(taken & (chosen.values > 0)[..., None]).any(1)
    return [o[torch.where(k)[0][:most]] for o, k in zip(order, kept[:, :end], strict=True)]


def _overlaps(one: Tensor, other: Tensor, iou: float) -> Tensor:
    """Return whether boxes (B, n, 4) and (B, m, 4) overlap by more than `iou`, (B, n, m).

    The steps are those of torchvision's kernel, so that rounding decides alike.
    """
    a, b = one[:, :, None], other[:, None]
    width = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    height = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    shared = width.clamp_(min=0).mul_(height.clamp_(min=0))
    areas = _areas(a) + _areas(b)
    return shared.div_(areas.sub_(shared)) > iou


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
