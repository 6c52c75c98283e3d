"""The ROI transform: crops of pictures, differentiable in the boxes (Han et al. 2019, section 3.1).

A box (m_1, n_1, m_2, n_2) maps the target grid [-1, 1] x [-1, 1] onto the picture by

    A_theta = 1/2 [[m_2 - m_1, 0, m_2 + m_1], [0, n_2 - n_1, n_2 + n_1]]     (eq. 1, 2)

and each target pixel is read there bilinearly (eq. 3). Pixel (i, j) of a picture is the square
[j, j + 1] x [i, i + 1], so target pixels are read at the centres of the grid's cells; nothing is
read beyond the centres of the box's outermost pixels. For a box with whole coordinates the result
is the cropped picture, resized bilinearly.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.errors import ModelError


def roi_transform(
    images: Tensor | Sequence[Tensor],  # (B, 3, H, W), or B pictures (3, H_i, W_i)
    # B times (N_i, 4), in pixels of their picture. Outside of the picture its border is repeated.
    boxes: Sequence[Tensor],
    size: Sequence[int] = (256, 128),  # height and width of a crop
) -> Tensor:
    """Crop all boxes from their pictures, those of picture 0 first (eq. 1-3).

    Returns:
        (sum N_i, 3, h, w) float32; gradients reach pictures and boxes.

    Raises:
        ModelError: another number of pictures than of sets of boxes, or a box that is not finite
            or has no area.
    """
    if len(images) != len(boxes):
        raise ModelError(
            f"{len(images)} pictures and {len(boxes)} sets of boxes, expected one set a picture"
        )
    height, width = size
    crops = [
        _crops(image.float(), own.float(), height, width)
        for image, own in zip(images, boxes, strict=True)
    ]
    return torch.cat(crops) if crops else torch.zeros(0, 3, height, width)


def _crops(image: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """(N, 3, h, w) of one picture (3, H, W)."""
    count = len(boxes)
    if not count:
        return image.new_zeros((0, len(image), height, width))
    _check(boxes)
    x = _source(boxes[:, 0], boxes[:, 2], width)
    y = _source(boxes[:, 1], boxes[:, 3], height)
    return _read(image, x, y)


def roi_transform_rows(pictures: Tensor, rows: Tensor, size: Sequence[int]) -> Tensor:
    """Crop `rows` (R, 5), the index of the picture and its box, from `pictures` (B, 3, H, W).

    The same crops (R, 3, h, w) as of `roi_transform`, without a loop over pictures.
    """
    height = pictures.shape[2]
    last = height - 0.5
    x = _source(rows[:, 1], rows[:, 3], size[1])
    # The pictures stand one below the other, and nothing is read beyond the border of its own.
    y = _source(rows[:, 2], rows[:, 4], size[0]).clamp(min=0.5)
    y = torch.where(y < last, y, last) + rows[:, :1] * height
    return _read(pictures.transpose(0, 1).flatten(1, 2), x, y)


def _read(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Read crops (N, 3, h, w) at columns `x` (N, w) and rows `y` (N, h) of an image (3, H, W)."""
    height, width = y.shape[1], x.shape[1]
    # All crops in one tall target, so that the picture is not copied for each.
    x = x[:, None, :] * (2.0 / image.shape[2]) - 1.0
    y = y[:, :, None] * (2.0 / image.shape[1]) - 1.0
    # By sums, since OpenVINO cannot expand what has no rows.
    grid = torch.stack([x + 0.0 * y, y + 0.0 * x], dim=-1).reshape(1, -1, width, 2)
    with torch.autocast(image.device.type, enabled=False):
        read = functional.grid_sample(
            image[None], grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    return read.reshape(len(image), -1, height, width).transpose(0, 1)


def _source(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """Where the cells between `low` (N,) and `high` (N,) are read: (N, cells), eq. 1."""
    step = 2.0 / cells
    target = torch.arange(cells, device=low.device) * step + (step / 2 - 1.0)
    low, high = low[:, None], high[:, None]
    source = 0.5 * (high - low) * target + 0.5 * (high + low)
    # The centres of the outermost pixels, or the middle of what is narrower than a pixel.
    margin = torch.clamp(0.5 * (high - low), max=0.5)
    return torch.minimum(torch.maximum(source, low + margin), high - margin)


def _check(boxes: Tensor) -> None:
    values = boxes.detach()
    bad = ~torch.isfinite(values).all(dim=1) | (values[:, 2:] <= values[:, :2]).any(dim=1)
    if bad.any():
        first = [round(v, 3) for v in values[bad][0].tolist()]
        raise ModelError(
            f"box {first} has no area or is not finite; expected x1 < x2 and y1 < y2, drop it"
        )
