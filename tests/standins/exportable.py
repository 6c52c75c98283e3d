"""Tiny systems of every kind that find somebody in noise, and their checkpoints."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from personsearch.systems.base import PersonSearchModel
from personsearch.training.checkpoint import save_checkpoint
from personsearch.training.recipe import Recipe, make_recipe

TINY: dict[str, Any] = {
    **{"iterations": 1, "lr": 0.1, "backbone": "small", "backbone_width": 8},
    **{"min_size": 96, "max_size": 160, "aspect_ratios": [2.0], "score_threshold": 0.05},
    **{"max_detections": 20, "anchor_sizes": [24, 40]},
}
PROPOSALS: dict[str, Any] = {"rpn_post_nms_top_n_test": 20}
REGIONS = TINY | PROPOSALS | {"roi_size": [8, 4], "embedding_dim": 16}
PYRAMID = TINY | {"anchor_sizes": [24, 40, 80], "pyramid_channels": 16, "crop_size": [48, 24]}
GRID = {"embedding_grid": [3, 2]}  # no divisors of the pooled region
SYSTEMS: dict[str, dict[str, Any]] = {
    "seqnet": {},
    "nae": GRID,
    "oim": {},
    "oim, final boxes": GRID | {"roi_pooling": "align", "embed_boxes": True},
    "trident": GRID,
    "inet": {},
    "dc-inet": {"hidden": 16},
    "xiao2016": {},
    "rdlr": PROPOSALS | {"rpn_pre_nms_top_n_test": 60, "detection_hidden": 32},
    "rdlr, retinanet": {"detector": "retinanet"},
    "sequential": {"region_size": [64, 32]},
    "sequential, disjoint": {"sharing": "disjoint", "stretch": False},
}
"""By the key of the system: settings of a recipe."""


def exportable(name: str, **changes: Any) -> tuple[Recipe, PersonSearchModel]:
    """A recipe of `SYSTEMS`, and its network whose scores and embeddings differ."""
    system = name.partition(",")[0]
    common = PYRAMID if system in ("rdlr", "sequential") else REGIONS
    recipe = make_recipe(common | SYSTEMS[name] | changes | {"system": system})
    torch.manual_seed(0)
    model = recipe.build(4).eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "cls_logits.bias" in key:
                weight.zero_()
            elif weight.ndim == 1 or weight.std() < 0.02:
                weight += torch.randn(weight.shape, generator=draw) * 0.05
    return recipe, model


def checkpoint(folder: Path, name: str = "oim", **changes: Any) -> Path:
    """The checkpoint folder of such a network."""
    recipe, model = exportable(name, **changes)
    save_checkpoint(folder, model, recipe, 4, {})
    return folder


def noise(count: int, height: int, width: int) -> list[Tensor]:
    """Pictures of noise."""
    draw = torch.Generator().manual_seed(height + width)
    return list(torch.rand((count, 3, height, width), generator=draw))
