"""Recipes are strict, complete, and read back as they were written."""

import inspect
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personsearch.detectors.backbones import build_backbone
from personsearch.errors import RecipeError
from personsearch.systems.oim import OIM
from personsearch.systems.regions import RegionSettings
from personsearch.training.catalogue import SYSTEMS
from personsearch.training.crop_stages import CropStage
from personsearch.training.recipe import OTHER_NAMES, Recipe, make_recipe, read_recipe

MINIMAL: dict[str, Any] = {"system": "oim", "iterations": 10, "lr": 0.01}


def test_the_minimal_recipe_has_the_constructors_defaults() -> None:
    recipe = make_recipe(MINIMAL)
    assert recipe.lr == 0.01
    assert recipe.settings["embedding_dim"] == 256
    assert recipe.settings["anchor_sizes"] == (32, 64, 128, 256, 512)


def test_every_keyword_of_the_constructors_is_a_key_and_nothing_else_is() -> None:
    keywords = {
        name
        for function in (OIM.__init__, build_backbone, CropStage.__init__)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    shared = {field.name for field in fields(RegionSettings)}
    assert "regions" in keywords
    assert set(make_recipe(MINIMAL).settings) == (keywords - {"regions"}) | shared


def test_every_key_of_a_recipe_is_written_and_described() -> None:
    recipe = make_recipe(MINIMAL)
    text = recipe.to_toml()
    assert set(tomllib.loads(text)) == (set(Recipe.model_fields) - {"settings"}) | set(
        recipe.settings
    )
    own, _, _ = text.partition("\n\n")
    assert all("  # " in line for line in own.splitlines())


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("iteration", "iterations"),
        ("momentun", "momentum"),
        ("embeding_dim", "embedding_dim"),
        ("decay-at", "decay_at"),
        *OTHER_NAMES.items(),
    ],
)
def test_an_unknown_key_names_itself_and_the_nearest_valid_one(key: str, near: str) -> None:
    with pytest.raises(RecipeError, match=rf"unknown key '{key}'; did you mean '{near}'\?"):
        make_recipe(MINIMAL | {key: 1})


@pytest.mark.parametrize("key", ["zzzzzz", "settings", "qqq"])
def test_an_unknown_key_like_no_other_names_itself(key: str) -> None:
    with pytest.raises(RecipeError, match=f"unknown key '{key}'"):
        make_recipe(MINIMAL | {key: {}})


@pytest.mark.parametrize("system", ["omi", "", None, 3, ["oim"]])
def test_an_unknown_system_lists_the_valid_ones(system: object) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(MINIMAL | {"system": system})
    assert all(repr(name) in str(caught.value) for name in SYSTEMS)
    assert repr(system) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("iterations", "10"),
        ("iterations", 10.0),
        ("iterations", True),
        ("iterations", -1),
        ("lr", "0.01"),
        ("lr", 0.0),
        ("lr", float("inf")),
        ("lr", float("nan")),
        ("cache_pictures", 1),
        ("cache_pictures", "true"),
        ("backbone", 50),
        ("sampler", "identities"),
        ("schedule", "linear"),
        ("precision", "float16"),
        ("decay_at", 5),
        ("decay_at", [5.5]),
        ("decay_at", ["5"]),
        ("flip", 1.5),
        ("momentum", 1.0),
        ("seed", -1),
        ("embedding_dim", "256"),
        ("embedding_dim", 2.5),
        ("oim_temperature", float("nan")),
        ("anchor_sizes", 32),
        ("anchor_sizes", [32, "64"]),
        ("confidence_weighted", 1),
    ],
)
def test_a_wrong_value_is_refused_and_named(key: str, value: object) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(MINIMAL | {key: value}, "my.toml")
    assert str(caught.value).startswith(f"my.toml: {key}")
    assert "\n" not in str(caught.value)


def test_the_refused_value_is_shown() -> None:
    with pytest.raises(RecipeError, match="received '256'"):
        make_recipe(MINIMAL | {"embedding_dim": "256"})


@pytest.mark.parametrize("key", ["iterations", "lr"])
def test_a_missing_key_is_named_without_showing_all_the_others(key: str) -> None:
    values = {k: v for k, v in MINIMAL.items() if k != key}
    with pytest.raises(RecipeError, match=f"{key}: Field required") as caught:
        make_recipe(values)
    assert "received" not in str(caught.value)


def test_a_whole_number_is_a_valid_float() -> None:
    recipe = make_recipe(MINIMAL | {"lr": 1, "flip": 0, "aspect_ratios": [1, 2]})
    assert recipe.lr == 1.0
    assert isinstance(recipe.lr, float)
    assert recipe.settings["aspect_ratios"] == (1.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"decay_at": [5, 3]}, ["decay_at", "rising"]),
        ({"decay_at": [5, 5]}, ["decay_at", "rising"]),
        ({"decay_at": [5], "schedule": "cosine"}, ["decay_at", "schedule", "cosine"]),
        ({"warmup": 11}, ["warmup 11", "iterations 10"]),
        ({"crop_iterations": 5}, ["crop_iterations", "crop_lr"]),
    ],
)
def test_keys_that_contradict_each_other_are_both_named(
    changes: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(MINIMAL | changes)
    assert all(word in str(caught.value) for word in named)
    assert "received" not in str(caught.value)


def test_a_recipe_cannot_be_changed() -> None:
    recipe = make_recipe(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        recipe.lr = 1.0  # type: ignore[misc]


def test_a_recipe_reads_back_as_it_was_written(tmp_path: Path) -> None:
    recipe = make_recipe(
        MINIMAL
        | {
            "lr": 1e-05,
            "decay_at": [3, 7],
            "oim_temperature": 1 / 30,
            "anchor_sizes": [16, 24],
            "cache_pictures": True,
            "data": 'C:\\data "x"\n\t\x7fé\U0001f600',
            "object_class": "tattoo",
        }
    )
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert read_recipe(path) == recipe
    assert read_recipe(path).to_toml() == recipe.to_toml()


@given(
    data=st.text(st.characters(exclude_categories=["Cs"])),
    lr=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    decay_at=st.lists(st.integers(0, 2**40), unique=True).map(sorted),
)
def test_any_value_survives_the_text(data: str, lr: float, decay_at: list[int]) -> None:
    recipe = make_recipe(MINIMAL | {"data": data, "lr": lr, "decay_at": decay_at})
    assert make_recipe(tomllib.loads(recipe.to_toml())) == recipe


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.toml: no such recipe"):
        read_recipe(tmp_path / "gone.toml")


def test_a_folder_is_not_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"lr: 0.1\n", "is not TOML"),
        (b"lr = 0.1\nlr = 0.2\n", "is not TOML"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=rf"odd\.toml: {said}"):
        read_recipe(path)


def test_a_table_is_an_unknown_key(tmp_path: Path) -> None:
    path = tmp_path / "nested.toml"
    path.write_text('system = "oim"\niterations = 1\nlr = 0.1\n[oim]\nqueue_size = 5\n')
    with pytest.raises(RecipeError, match="unknown key 'oim'"):
        read_recipe(path)


def test_the_model_is_built_as_the_recipe_says() -> None:
    recipe = make_recipe(
        MINIMAL
        | {"backbone": "small", "backbone_width": 8, "embedding_dim": 12, "queue_size": 5}
        | {"norm": "frozen", "frozen_stages": 1, "confidence_weighted": True}
    )
    model = recipe.build(7)
    assert isinstance(model, OIM)
    assert model.oim.lookup.values.shape == (7, 12)
    assert model.oim.queue.values.shape == (5, 12)
    assert model.confidence_weighted
    assert not any(type(m).__name__ == "BatchNorm2d" for m in model.modules())
    assert not next(model.stem.parameters()).requires_grad


@pytest.mark.parametrize(
    ("system", "key", "value", "message"),
    [
        ("oim", "roi_aligned", 1, "valid boolean"),
        ("rdlr", "roi_aligned", True, "unknown key 'roi_aligned'"),
        ("oim", "bias_lr_factor", float("nan"), "finite"),
        ("oim", "queue_size", -1, "greater than or equal to 0"),
        ("oim", "oim_temperature", 0.0, "greater than 0"),
        ("oim", "oim_momentum", 2.0, "less than or equal to 1"),
        ("oim", "detection_hidden", -1, "greater than or equal to 0"),
        ("oim", "anchor_sizes", [], "at least 1 item"),
        ("oim", "anchor_sizes", [32, 0], "greater than 0"),
        ("oim", "crop_jitter", 0.5, "less than 0.5"),
        ("oim", "min_size", 0, "greater than 0"),
        ("xiao2016", "dropout", 1.0, "less than 1"),
        ("dc-inet", "reid_min_iou", 2.0, "less than or equal to 1"),
        ("trident", "box_beta", -1.0, "greater than or equal to 0"),
        ("rdlr", "proxy_slots", 0, "greater than 0"),
        ("rdlr", "box_coder", [1.0], "at least 4 items"),
        ("rdlr", "reid_decay_at", [-1], "greater than or equal to 0"),
        ("sequential", "bg_iou_threshold", 0.9, "fg_iou_threshold 0.5 is below bg_iou_threshold"),
    ],
)
def test_impossible_values_of_a_systems_keys_are_refused(
    system: str, key: str, value: Any, message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        make_recipe(MINIMAL | {"system": system, key: value})
    assert key in str(error.value)
