"""A small recipe, six scenes, and the stages that are made of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from personsearch.training.crop_stages import CropStage
from personsearch.training.recipe import Recipe, make_recipe
from personsearch.training.stages import SceneStage, Stage
from personsearch.training.training_set import Batch, PictureCache
from personsearch.types import Scene


def small_recipe(**changes: Any) -> Recipe:
    values = {"system": "oim", "iterations": 10, "lr": 0.1, "backbone": "small"}
    values |= {"backbone_width": 8, "embedding_dim": 8, "queue_size": 4, "loader_workers": 0}
    return make_recipe(values | {"images_per_iteration": 2} | changes)


def draw_scenes(folder: Path) -> list[Scene]:
    """Six pictures of 96 x 64 with two people each, three identities in all."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(6):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(path)
        boxes = np.array([[8, 10, 24, 50], [60, 12, 76, 52]], np.float32)
        ids = np.array([number % 3, -1 if number % 2 else (number + 1) % 3])
        made.append(Scene(f"s{number}", path, (96, 64), boxes, ids))
    return made


def scene_stage(scenes: Sequence[Scene], **changes: Any) -> SceneStage:
    return SceneStage(small_recipe(**changes), scenes, PictureCache(scenes, False))


def crop_stage(scenes: Sequence[Scene], **changes: Any) -> CropStage:
    changes = {"crop_iterations": 6, "crop_lr": 1.0, "canvases_per_iteration": 2} | changes
    recipe = small_recipe(**changes)
    keywords = recipe.keywords(CropStage.__init__)
    return CropStage(recipe, scenes, PictureCache(scenes, False), **keywords)


def rates(stage: Stage) -> list[float]:
    return [stage.learning_rate(iteration) for iteration in range(stage.iterations)]


def assert_same(a: Batch, b: Batch) -> None:
    assert a.names == b.names
    for x, y in zip(a.images, b.images, strict=True):
        assert torch.equal(x, y)
    for s, t in zip(a.targets, b.targets, strict=True):
        assert torch.equal(s.boxes, t.boxes)
        assert torch.equal(s.ids, t.ids)
