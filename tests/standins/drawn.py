"""Four drawn scenes, and what tests of systems do with them."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor

from personsearch.detectors.backbones import build_backbone
from personsearch.systems.base import Target

Model = TypeVar("Model")
COLORS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.1, 0.2, 0.9], [0.9, 0.9, 0.1]])
REGIONS: dict[str, Any] = {
    "min_size": 96,
    "max_size": 160,
    "anchor_sizes": (24, 40),
    "aspect_ratios": (2.0,),
    "rpn_pre_nms_top_n_train": 240,
    "rpn_post_nms_top_n_train": 40,
    "rpn_post_nms_top_n_test": 20,
    "rpn_batch_size_per_image": 32,
    "rois_per_image": 16,
}
"""Region settings for pictures of 96 x 128 pixels."""
BACKBONE = {"embedding_grid", "detection_hidden", "detection_grid"}
"""Settings of the backbone."""


def build(
    constructor: Callable[..., Model], settings: dict[str, Any], backbone: str = "small"
) -> Model:
    """A system of 4 identities from flat settings, always of the same first weights."""
    torch.manual_seed(0)
    settings = dict(settings)
    cut = {key: settings.pop(key) for key in BACKBONE & settings.keys()}
    groups: dict[str, Any] = {}
    for name, kind in get_type_hints(constructor.__init__).items():
        if is_dataclass(kind) and name != "backbone":
            keys = {f.name for f in fields(kind)} & settings.keys()
            groups[name] = kind(**{key: settings.pop(key) for key in keys})
    return constructor(build_backbone(backbone, width=8, **cut), 4, **groups, **settings)


def scenes(unlabelled: bool = False) -> tuple[list[Tensor], list[Target]]:
    """Four scenes with two rectangles each, a color an identity; the last may be nobody's."""
    images, targets = [], []
    for k in range(4):
        image = torch.full((3, 96, 128), 0.5)
        boxes = torch.tensor([[12.0 + 6 * k, 20, 34 + 6 * k, 64], [76 + 4 * k, 30, 98 + 4 * k, 74]])
        ids = torch.tensor([k, (k + 1) % 4])
        for (x1, y1, x2, y2), i in zip(boxes.int().tolist(), ids.tolist(), strict=True):
            image[:, y1:y2, x1:x2] = COLORS[i][:, None, None]
        images.append(image)
        targets.append(Target(boxes, ids))
    if unlabelled:
        targets[3] = Target(targets[3].boxes, torch.tensor([3, -1]))
    return images, targets


def nobody() -> Target:
    """A picture without people."""
    return Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum that a training step goes down."""
    return torch.stack(list(losses.values())).sum()
