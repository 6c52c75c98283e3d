"""RoIAlign (He et al. 2017) on maps whose channels lie together in memory.

Each cell of a region is a weighted sum of a few rows of the map, a row being the channels of one
cell of it. `embedding_bag` sums whole rows, in float32 and bfloat16, where torchvision's kernel
reads number by number: several times as fast, and its gradient, the same sum the other way round,
adds in the same order in every run.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def align_rows(
    features: Tensor,  # (B, C, H, W), channels together in memory
    boxes: Sequence[Tensor],  # (R_i, 4) of each picture, float32
    size: tuple[int, int],  # rows h and columns w of a region
    scale: float,  # cells of the map to one pixel of a box
    sampling_ratio: int,  # points a side in each cell of a region
    aligned: bool,  # whether regions are shifted by half a cell
    step: int = 1,  # return every step-th row and column of the regions alone
) -> Tensor:
    """Return regions (R, C, ceil(h / step), ceil(w / step)), as torchvision's `roi_align` does."""
    (batch, channels, height, width), regions = features.shape, torch.cat(list(boxes))
    if not len(regions):
        return features.new_zeros((0, channels, *(-(-side // step) for side in size)))
    offset = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (regions * scale - offset).unbind(1)
    sides = (y2 - y1, x2 - x1)
    if not aligned:
        sides = (sides[0].clamp(min=1.0), sides[1].clamp(min=1.0))
    rows, row_weights = _corners(y1, sides[0], size[0], height, sampling_ratio, step)
    columns, column_weights = _corners(x1, sides[1], size[1], width, sampling_ratio, step)
    counts = torch.tensor([len(b) for b in boxes], device=regions.device)
    pictures = torch.arange(batch, device=regions.device).repeat_interleave(counts)
    rows = rows + (pictures * height)[:, None, None]
    index = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)
    cells: Tensor = _SumRows.apply(
        table, index.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)
    )
    return cells.view(*index.shape[:3], channels).permute(0, 3, 1, 2)


def _corners(
    start: Tensor, side: Tensor, count: int, length: int, ratio: int, step: int
) -> tuple[Tensor, Tensor]:
    """Return the cells of an axis of the map that bilinear interpolation reads, and their weights.

    Both are (R, ceil(count / step), 2 x ratio), of regions from `start` (R,) on of `side` (R,).
    """
    bin_side = (side / count)[:, None, None]
    bins = torch.arange(0, count, step, device=start.device)[None, :, None]
    points = (torch.arange(ratio, device=start.device, dtype=start.dtype) + 0.5)[None, None, :]
    at = start[:, None, None] + bins * bin_side + points * bin_side / ratio
    # Up to one cell outside of the map, its border counts; beyond, nothing does.
    inside = (at >= -1.0) & (at <= length)
    at = at.clamp(0.0, length - 1.0)
    low = at.floor()
    share = at - low
    low = low.long()
    cells = torch.stack((low, (low + 1).clamp(max=length - 1)), dim=-1)
    weights = torch.stack((1.0 - share, share), dim=-1) * inside[..., None] / ratio
    return cells.flatten(2), weights.flatten(2)


class _SumRows(torch.autograd.Function):
    """Sums (M, C) of rows of a table (N, C) by their numbers and weights (M, K)."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(index, weights)
        ctx.rows = len(table)
        return functional.embedding_bag(
            index, table, mode="sum", per_sample_weights=weights.to(table.dtype)
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        index, weights = ctx.saved_tensors
        order = index.flatten().argsort(stable=True)
        counts = index.flatten().bincount(minlength=ctx.rows)
        summed = functional.embedding_bag(
            order.div(index.shape[1], rounding_mode="floor"),
            gradient.contiguous(),
            counts.cumsum(0) - counts,
            mode="sum",
            per_sample_weights=weights.flatten()[order].to(gradient.dtype),
        )
        return summed, None, None
