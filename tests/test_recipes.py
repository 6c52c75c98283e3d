"""Every shipped recipe is complete, builds its system, and takes one step at reduced size."""

import tomllib
from functools import cache
from pathlib import Path

import pytest
import torch

from personsearch.errors import RecipeError
from personsearch.recipes import FOLDER, find, find_set, names
from personsearch.systems.base import Target
from personsearch.training.recipe import make_recipe, read_recipe

RECIPES = sorted(FOLDER.rglob("*.toml"))


def test_there_are_recipes() -> None:
    names = {path.relative_to(FOLDER).as_posix() for path in RECIPES}
    assert {"cuhk-sysu/oim.toml", "prw/oim.toml", "synthetic-small/oim.toml"} <= names


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_is_complete(path: Path) -> None:
    """Flat, no key left to a default: a changed default must not change a published recipe."""
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    recipe = read_recipe(path)
    assert set(values) == set(recipe.model_dump()) | set(recipe.settings)


def network(path: Path) -> str:
    """The keys that the network depends on, as TOML, at reduced size.

    Published weights cannot be fetched here. Small pictures have room for few proposals, each of
    which passes through the large network.
    """
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    changes: dict[str, object] = {"weights": "none", "norm": "batch", "fc_weights": "none"}
    changes |= {"min_size": 64, "max_size": 96}
    most = {"rois_per_image": 4, "rpn_post_nms_top_n_train": 16, "hidden": 64, "queue_size": 8}
    changes |= {key: min(values[key], few) for key, few in most.items() if key in values}
    recipe = make_recipe(values | {key: v for key, v in changes.items() if key in values})
    own = {k: v for k, v in recipe.settings.items() if not k.endswith("_iterations")}
    shared = ("system", "backbone", "backbone_width", "weights", "norm", "frozen_stages")
    kept = {key: getattr(recipe, key) for key in shared} | own | {"iterations": 1, "lr": 1.0}
    return make_recipe(kept).to_toml()


@cache
def trained_by_a_step(network: str) -> int:
    """How many tensors a step moves; the recipes of two data sets often share a network."""
    torch.manual_seed(0)
    model = make_recipe(tomllib.loads(network)).build(num_ids=3)
    images = [torch.rand(3, 64, 96) for _ in range(2)]
    boxes = torch.tensor([[8.0, 8.0, 32.0, 56.0], [48.0, 6.0, 72.0, 60.0]])
    targets = [Target(boxes, torch.tensor([0, -1])), Target(boxes, torch.tensor([2, 0]))]
    losses = model(images, targets)
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    return sum(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_takes_a_step(path: Path) -> None:
    assert trained_by_a_step(network(path)) > 10


def test_recipes_are_found_by_name_and_by_their_path_of_0_1() -> None:
    assert names() == sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in RECIPES)
    shipped = FOLDER / "prw" / "seqnet.toml"
    for name in ("prw/seqnet", "prw/seqnet.toml", "recipes/prw/seqnet.toml"):
        assert find(name) == shipped


def test_a_users_file_goes_before_a_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("recipes/prw/seqnet.toml")
    own.parent.mkdir(parents=True)
    own.write_text("", encoding="utf-8")
    assert find(own) == own


@pytest.mark.parametrize(
    ("name", "near"), [("prw/seqnte", "prw/seqnet"), ("seqnet", "prw/seqnet"), ("zzz", "list")]
)
def test_an_unknown_recipe_lists_the_nearest(name: str, near: str) -> None:
    with pytest.raises(RecipeError, match=near):
        find(name)


def test_sets_of_recipes_are_found_by_name() -> None:
    assert find_set("prw") == FOLDER / "prw"
    with pytest.raises(RecipeError, match="synthetic-small"):
        find_set("synthetic-huge")


@pytest.mark.parametrize("preset", ["synthetic-ablation", "synthetic-small"])
def test_systems_that_are_compared_have_equal_budgets(preset: str) -> None:
    """OIM, Trident, NAE and SeqNet: stages, pictures, queue, regions; the identity loss's weight,
    but for NAE, whose embedding's length is the person score.
    """
    keys = ("iterations", "images_per_iteration", "crop_iterations", "canvases_per_iteration")
    keys += ("lr", "crop_lr", "backbone", "backbone_width", "queue_size", "roi_size", "min_size")
    keys += ("rois_per_image", "rpn_post_nms_top_n_train", "score_threshold", "embedding_dim")
    found = {}
    for system in ("oim", "trident", "nae", "seqnet"):
        recipe = read_recipe(FOLDER / preset / f"{system}.toml")
        values = recipe.model_dump() | recipe.settings
        values["weight"] = values.get("oim_weight", values.get("identity_weight"))
        names = keys if system == "nae" else (*keys, "weight")
        found[system] = {key: values[key] for key in names}
    assert found["trident"] == found["seqnet"] == found["oim"]
    assert found["nae"] == {key: found["oim"][key] for key in keys}
