from pathlib import Path

import numpy as np

from personsearch.datasets.dataset import Dataset
from personsearch.datasets.stats import statistics
from personsearch.types import UNLABELLED, Scene


def scene(name: str, camera: int | None, ids: list[int], heights: list[float]) -> Scene:
    boxes = [[0, 5, 10, 5 + height] for height in heights]
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Scene(name, Path(name), (100, 200), boxes, np.array(ids, dtype=int), camera)


def test_figures_of_each_split() -> None:
    train = [
        scene("a", 1, [0, 1, UNLABELLED], [10, 20, 30]),
        scene("b", 2, [0], [40]),
        scene("c", 2, [], []),
        scene("d", 2, [0], [50]),
    ]
    dataset = Dataset("mine", Path(), {"train": train, "test": []})
    first, second = statistics(dataset)
    assert first.as_dict() == {
        "split": "train",
        "images": 4,
        "boxes": 5,
        "labelled_boxes": 4,
        "ids": 2,
        "cameras": 2,
        "boxes_an_image": 1.25,
        "boxes_an_id": 2.0,
        "cameras_an_id": 1.5,
        "mean_height": 30.0,
        "height_percentiles": {"5": 12.0, "25": 20.0, "50": 30.0, "75": 40.0, "95": 48.0},
    }
    assert second.as_dict() | {"height_percentiles": 0} == {
        "split": "test",
        "images": 0,
        "boxes": 0,
        "labelled_boxes": 0,
        "ids": 0,
        "cameras": 0,
        "boxes_an_image": None,
        "boxes_an_id": None,
        "cameras_an_id": None,
        "mean_height": None,
        "height_percentiles": 0,
    }
