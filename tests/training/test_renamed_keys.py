"""Recipes of version 0.1 still open: renamed keys with a warning, removed ones at their value."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from personsearch.errors import RecipeError
from personsearch.training.catalogue import SYSTEMS
from personsearch.training.recipe import make_recipe, read_recipe
from personsearch.training.renamed_keys import REMOVED, RENAMED, current_keys, current_tensors

SEQNET: dict[str, Any] = {"system": "seqnet", "iterations": 1, "lr": 0.1}


def test_every_new_name_is_a_key_and_no_old_one() -> None:
    known: set[str] = set()
    for system in SYSTEMS:
        known |= set(make_recipe(SEQNET | {"system": system}).settings)
    assert set(RENAMED.values()) <= known
    assert not known & (RENAMED.keys() | REMOVED.keys())


def test_old_keys_are_accepted_with_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        'system = "seqnet"\niterations = 1\nlr = 0.1\n'
        "rpn_train_proposals = 40\nrpn_test_proposals = 20\nroi_sampling = 3\n"
        "detection_weight = 1.0\nsecond_score = false\n"
    )
    with pytest.warns(DeprecationWarning, match="keys of version 0.1") as warned:
        recipe = read_recipe(path)
    assert len(warned) == 1
    message = str(warned[0].message)
    assert message.startswith(f"{path}: has keys of version 0.1: rpn_train_proposals is now")
    assert "second_score is no longer a key" in message
    assert recipe.settings["rpn_post_nms_top_n_train"] == 40
    assert recipe.settings["rpn_post_nms_top_n_test"] == 20
    assert recipe.settings["sampling_ratio"] == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path.write_text(recipe.to_toml())
        assert read_recipe(path) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second_score": True}, "second_score is True, but this key was removed and its value"),
        ({"second_weight": 0.5}, "second_weight is 0.5, but .* fixed at 1.0; remove the key"),
        ({"second_score": 0}, "second_score is 0, but"),
        (
            {"roi_sampling": 2, "sampling_ratio": 3},
            "has both 'roi_sampling' and 'sampling_ratio'; keep 'sampling_ratio'",
        ),
        (
            {"sampling_ratio": 3, "roi_sampling": 2},
            "has both 'roi_sampling' and 'sampling_ratio'; keep 'sampling_ratio'",
        ),
    ],
)
def test_what_old_keys_cannot_say(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe(SEQNET | changes)


def test_present_keys_stay_as_they_are() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert current_keys(SEQNET | {"sampling_ratio": 3}) == SEQNET | {"sampling_ratio": 3}


def test_a_model_of_0_1_keeps_the_proportions_of_pictures() -> None:
    values = {"system": "sequential", "iterations": 1, "lr": 1.0}
    assert make_recipe(values, trained=True).settings["stretch"] is False
    assert make_recipe(values | {"stretch": True}, trained=True).settings["stretch"] is True
    assert make_recipe(values).settings["stretch"] is True


def test_a_trident_of_0_1_has_one_foreground_classifier_and_its_losses() -> None:
    values = {"system": "trident", "iterations": 1, "lr": 1.0}
    settings = make_recipe(values, trained=True).settings
    keys = ("shallow_foreground", "background_iou", "box_weight", "box_beta")
    assert [settings[key] for key in keys] == [False, 0.5, 1.0, 1 / 9]
    settings = make_recipe(values).settings
    assert [settings[key] for key in keys] == [True, 0.1, 10.0, 1.0]


@pytest.mark.parametrize("hidden", [0, 16])
def test_tensors_of_a_trident_of_0_1(hidden: int) -> None:
    """A detection branch of its own was one module, and else the classifier had no bias."""
    values = {"system": "trident", "iterations": 1, "lr": 1.0, "backbone": "small"}
    values |= {"backbone_width": 8, "shallow_foreground": False, "detection_hidden": hidden}
    model = make_recipe(values).build(3)
    expected = model.state_dict()
    old = dict(expected)
    if hidden:
        for name in [key for key in old if key.startswith(("foreground", "regressor"))]:
            part = name.replace("foreground", "classifier")
            old[f"detection.{part}"] = torch.ones_like(old.pop(name))
        for name in [key for key in old if key.startswith("detection_head")]:
            old[name.replace("detection_head", "detection")] = old.pop(name)
    else:
        del old["foreground.bias"]
    found = current_tensors(old, model)
    assert found.keys() == expected.keys()
    assert bool(found["foreground.bias"].any()) is bool(hidden)


def test_rdlr_of_0_1_is_the_network_that_it_was() -> None:
    """Its re-ID network had stride 2 and no neck, and was trained on canvases."""
    old = {"system": "rdlr", "iterations": 1, "lr": 0.1, "refined_per_image": 8}
    old |= {"crop_iterations": 200, "crop_lr": 0.02, "optimizer": "adamw", "erase": 0.1}
    old |= {"reid_grid": [4, 1], "rpn_test_proposals": 80}
    with pytest.warns(DeprecationWarning, match="refined_per_image is no longer a key"):
        recipe = make_recipe(old, trained=True)
    settings = recipe.settings
    assert not settings["reid_neck"]
    assert settings["reid_last_stride"] == 2
    assert settings["box_coder"] == (1.0, 1.0, 1.0, 1.0)
    assert settings["embedding_grid"] == (4, 1)
    assert (settings["rpn_pre_nms_top_n_test"], settings["rpn_post_nms_top_n_test"]) == (1600, 80)
    assert (settings["proxy_negatives"], settings["proxy_features"]) == ("table", "unit")
    assert (settings["reid_iterations"], settings["reid_lr"]) == (200, 0.02)
    assert recipe.crop_iterations == 0
