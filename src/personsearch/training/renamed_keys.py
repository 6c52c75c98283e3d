"""Recipe keys and tensors of version 0.1 under their present names."""

import re
import warnings
from collections.abc import Container, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from personsearch.errors import RecipeError

RENAMED = {
    "candidates": "topk_candidates",
    "negative_iou": "bg_iou_threshold",
    "positive_iou": "fg_iou_threshold",
    "reid_grid": "embedding_grid",
    "roi_sampling": "sampling_ratio",
    "rpn_anchors_per_image": "rpn_batch_size_per_image",
    "rpn_test_proposals": "rpn_post_nms_top_n_test",
    "rpn_train_proposals": "rpn_post_nms_top_n_train",
}
"""The present name of each renamed key."""

REMOVED: Mapping[str, bool | float | str] = {
    "confidence_gradient": False,
    "contrastive_margin": 1.0,
    "crop_loss": "softmax",
    "detection_weight": 1.0,
    "reference_gradient": False,
    "refined_per_image": 32,
    "second_score": False,
    "second_weight": 1.0,
    "triplet_margin": 0.3,
}
"""The value that is fixed now of each removed key."""

BEFORE: Mapping[str, Mapping[str, Any]] = {
    "dc-inet": {"roi_pooling": "align"},
    "oim": {"roi_pooling": "align", "py_faster_rcnn": False, "box_beta": 1 / 9},
    "sequential": {"stretch": False},
    "trident": {
        "shallow_foreground": False,
        "background_iou": 0.5,
        "box_weight": 1.0,
        "box_beta": 1 / 9,
    },
}
"""By system, what a trained model's recipe means where it lacks a key of today."""

IN_DETECTION = {"second_score"}
"""Removed keys that change what a trained model reports; the others change training alone."""

XIAO_TRAINING = (
    "identity_loss",
    "rss_sampled",
    "identity_weight",
    "reid_min_iou",
    "classifier_jitter",
)
"""Keys of Xiao 2016 of version 0.1 that changed its training alone; it is not trained any more."""


def current_keys(
    values: Mapping[str, Any], where: str = "recipe", *, trained: bool = False
) -> dict[str, Any]:
    """Return `values` with renamed keys renamed and removed keys left out, with one warning.

    In a `trained` model's recipe, removed keys of training may have any value.

    Raises:
        RecipeError: a removed key has another value than the fixed one, or a key is given under
            both of its names.
    """
    current: dict[str, Any] = {}
    notes = []
    # Two keys tell the recipes of 0.1: each has one, in full recipes and in those of checkpoints.
    if "crop_loss" in values:  # systems on one shared map
        values = _region_keys(values, where, trained)
    if "refined_per_image" in values:  # RDLR
        values = _rdlr_keys(values)
    for key, value in values.items():
        if key in REMOVED:
            fixed = REMOVED[key]
            other = value != fixed or isinstance(value, bool) != isinstance(fixed, bool)
            if other and (key in IN_DETECTION or not trained):
                raise RecipeError(
                    f"{where}: {key} is {value!r}, but this key was removed and its value fixed at "
                    f"{fixed!r}; remove the key, or use version 0.1"
                )
            notes.append(f"{key} is no longer a key")
            continue
        name = RENAMED.get(key, key)
        if name != key:
            notes.append(f"{key} is now {name}")
        if name in current or (name != key and name in values):
            raise RecipeError(f"{where}: has both {key!r} and {name!r}; keep {name!r}")
        current[name] = value
    if trained:
        current = {**BEFORE.get(str(values.get("system")), {}), **current}
    if notes:
        message = f"{where}: has keys of version 0.1: {', '.join(notes)}"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
    return current


def _region_keys(values: Mapping[str, Any], where: str, trained: bool) -> dict[str, Any]:
    """Return the keys of a recipe of 0.1 for a system on one shared map, as 0.1 read them."""
    system = str(values.get("system"))
    kept = {"roi_aligned": True, **BEFORE.get(system, {}), **values}
    proposals = kept.get("rpn_post_nms_top_n_train", kept.get("rpn_train_proposals"))
    if isinstance(proposals, int):
        kept.setdefault("rpn_pre_nms_top_n_train", 6 * proposals)
    if not kept.get("crop_iterations"):
        del kept["crop_loss"]  # of a stage that is skipped
    if system == "xiao2016":
        if not trained:
            raise RecipeError(
                f"{where}: is of xiao2016 of version 0.1, which is another network than the "
                "published one; train today's recipe (`personsearch recipes copy`), or use "
                "version 0.1"
            )
        kept["system"] = "xiao2016-0.1"
        for key in XIAO_TRAINING:
            kept.pop(key, None)
    if system in ("inet", "xiao2016"):
        _remove_hidden(kept, where)
    return kept


def _remove_hidden(values: dict[str, Any], where: str) -> None:
    """Remove the keys of fc6 and fc7, which are the backbone's now: VGG16's, or none."""
    hidden, vgg = values.pop("hidden", 4096), values.get("backbone") == "vgg16"
    values.pop("fc_weights", None)
    if vgg and hidden == 4096 and values.get("embedding_grid", [7, 7]) == [7, 7]:
        values["embedding_grid"] = [1, 1]  # the grid was that of fc6
    elif vgg or hidden:
        raise RecipeError(
            f"{where}: hidden is {hidden} with backbone {values.get('backbone')!r}, but this key "
            "was removed: vgg16 has fc6 and fc7 of 4096 on 7 x 7 cells, other backbones have "
            "none; remove it, or use version 0.1"
        )


def _rdlr_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a recipe of 0.1 with the values that stand for what 0.1 did."""
    length = values.get("crop_iterations", 0)
    kept = {
        split: values.get(f"rpn_post_nms_top_n_{split}", values.get(f"rpn_{split}_proposals", most))
        for split, most in (("train", 2000), ("test", 1000))
    }
    of_0_1 = {
        "rpn_pre_nms_top_n_train": 6 * kept["train"],
        "rpn_pre_nms_top_n_test": 20 * kept["test"],
        "reid_last_stride": 2,
        "reid_neck": False,
        "proxy_negatives": "table",
        "proxy_features": "unit",
        "box_coder": [1.0, 1.0, 1.0, 1.0],
        "reid_iterations": length,
        "reid_optimizer": values.get("optimizer", "sgd"),
        "reid_weight_decay": values.get("weight_decay", 5e-4),
        "reid_warmup": min(50, length // 10),
        "reid_margin": 0.0,
        "reid_padding": 0,
        "reid_erase": values.get("erase", 0.0),
    }
    if length:
        of_0_1["reid_lr"] = values.get("crop_lr", 0.0)
    return of_0_1 | dict(values) | {"crop_iterations": 0}


_TENSORS = {
    r"detection\.classifier\.(.*)": r"foreground.\1",
    r"detection\.regressor\.(.*)": r"regressor.\1",
    r"(?:box_predictor|detection)\.layers\.(.*)": r"detection_head.layers.\1",  # small networks
    r"box_predictor\.layers\.(.*)": r"head.layers.\1",  # of DC-I-Net
    r"first\.layers\.(.*)": r"first_head.layers.\1",
    r"regressor\.layers\.2\.(weight|bias)": r"detection_head.layers.0.\1",
    r"regressor\.layers\.4\.(weight|bias)": r"detection_head.layers.2.\1",
    r"regressor\.layers\.[26]\.(.*)": r"regressor.2.\1",
    r"fc6_7\.0\.(.*)": r"head.fc6.\1",
    r"fc6_7\.2\.(.*)": r"head.fc7.\1",
}
"""Names of tensors of 0.1, as patterns, and their present names."""


def current_tensors(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return a checkpoint's `tensors` under their present names.

    Left out is the classifier of 0.1's crop stage. Frozen batch normalisation had no count, and
    Trident's published foreground classifier no bias: these become zeros.
    """
    expected = model.state_dict()
    if _has_reid_head(expected) and not _has_reid_head(tensors):
        tensors = {_dcinet_name(name): tensor for name, tensor in tensors.items()}
    current = {
        _current_name(name, expected): tensor
        for name, tensor in tensors.items()
        if name in expected or name != "softmax.weight"
    }
    for name in expected.keys() - current.keys():
        if name.endswith("num_batches_tracked") or name == "foreground.bias":
            current[name] = torch.zeros_like(expected[name])
    return current


def _current_name(name: str, expected: Container[str]) -> str:
    """Return the present name of a tensor; unchanged if no pattern gives an expected name."""
    if name not in expected:
        for old, new in _TENSORS.items():
            renamed, found = re.subn(f"^{old}$", new, name)
            if found and renamed in expected:
                return renamed
    return name


def _has_reid_head(names: Iterable[str]) -> bool:
    return any(name.startswith("reid_head.") for name in names)


def _dcinet_name(name: str) -> str:
    """Return the name of a tensor of DC-I-Net, whose `head` was the re-identifier's."""
    return re.sub(r"^detection_head\.", "head.", re.sub(r"^head\.", "reid_head.", name))
