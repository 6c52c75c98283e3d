"""A data set and a recipe so small that a run takes a second."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_bench import write_recipe

from personsearch.bench.data import Source, at
from personsearch.datasets import scenes
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.protocols import cross_camera_protocol
from personsearch.types import Scene

CHANGES: dict[str, Any] = {
    "crop_iterations": 1,
    "canvases_per_iteration": 1,
    "crops_per_canvas": 4,
    "score_threshold": 0.0,
    "eval_score_threshold": 0.0,
}
COLORS = [(220, 30, 30), (30, 200, 40), (40, 60, 230), (230, 220, 40)]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve pictures of 96 x 64 pixels by two cameras, two of four people in each."""
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(0)
    splits: dict[str, list[Scene]] = {"train": [], "test": []}
    for number in range(12):
        picture = rng.integers(110, 150, (64, 96, 3), dtype=np.uint8)
        ids = [number % 4, (number + 1) % 4]
        boxes = np.array([[8, 12, 24, 52], [54, 12, 70, 52]], dtype=np.float32)
        for (x1, y1, x2, y2), identity in zip(boxes.astype(int), ids, strict=True):
            picture[y1:y2, x1:x2] = COLORS[identity]
        name = f"{number:02}.png"
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / "images" / name)
        splits["train" if number < 6 else "test"].append(
            Scene(
                name=name,
                path=folder / "images" / name,
                size=(96, 64),
                boxes=boxes,
                ids=np.array(ids),
                camera=number % 2,
            )
        )
    protocols = {"cross-camera": cross_camera_protocol(splits["test"])}
    made = Dataset("drawn", folder, splits, protocols)
    scenes.write(made, folder)
    return scenes.read(folder)


@pytest.fixture(scope="session")
def source(drawn: Dataset) -> Source:
    """Where it lies."""
    return at(drawn.root)


@pytest.fixture(scope="session")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one base recipe, ``oim.toml``."""
    folder = tmp_path_factory.mktemp("recipes")
    write_recipe(folder, **CHANGES)
    return folder
