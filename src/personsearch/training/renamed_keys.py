"""Recipe keys of version 0.1 under their present names."""

import warnings
from collections.abc import Mapping
from typing import Any

from personsearch.errors import RecipeError

RENAMED = {
    "candidates": "topk_candidates",
    "negative_iou": "bg_iou_threshold",
    "positive_iou": "fg_iou_threshold",
    "roi_sampling": "sampling_ratio",
    "rpn_anchors_per_image": "rpn_batch_size_per_image",
    "rpn_test_proposals": "rpn_post_nms_top_n_test",
    "rpn_train_proposals": "rpn_post_nms_top_n_train",
}
"""The present name of each renamed key."""

REMOVED: Mapping[str, bool | float] = {
    "confidence_gradient": False,
    "detection_weight": 1.0,
    "reference_gradient": False,
    "second_score": False,
    "second_weight": 1.0,
}
"""The value that is fixed now of each removed key."""

IN_DETECTION = {"second_score"}
"""Removed keys that change what a trained model reports; the others change training alone."""


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
    if notes:
        message = f"{where}: has keys of version 0.1: {', '.join(notes)}"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
    return current
