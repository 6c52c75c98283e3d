"""Ground-truth galleries and smaller galleries."""

from pathlib import Path

import numpy as np
import pytest

from personsearch.datasets.galleries import Excluding
from personsearch.errors import EvaluationError
from personsearch.evaluation import evaluate_search
from personsearch.evaluation.protocols import ground_truth_gallery, with_gallery_size
from personsearch.types import Query, Scene, SearchProtocol

BOX = np.array([0, 0, 40, 100], np.float32)
NAMES = [f"s{k}" for k in range(30)]


def scene(name: str) -> Scene:
    return Scene(name, Path(f"{name}.jpg"), (640, 480), np.stack([BOX, BOX + 60]), np.array([1, 2]))


def protocol() -> SearchProtocol:
    return SearchProtocol(
        name="all",
        queries=[Query("s0", BOX, 1), Query("s1", BOX, 1)],
        galleries=[Excluding(NAMES, frozenset({"s0"})), Excluding(NAMES, frozenset({"s1"}))],
        targets=[{"s5": BOX, "s6": BOX}, {"s5": BOX}],
    )


def test_ground_truth_boxes_bound_the_detector() -> None:
    scenes = [scene(name) for name in NAMES]
    gallery = ground_truth_gallery(scenes, [np.eye(2)] * 30)
    assert gallery["s3"].scores.tolist() == [1, 1]
    result = evaluate_search(protocol(), gallery, np.eye(2)[[0, 0]])
    assert result.num_found.tolist() == result.num_targets.tolist() == [2, 1]
    with pytest.raises(EvaluationError, match="30 scenes but embeddings of 1"):
        ground_truth_gallery(scenes, [np.eye(2)])
    with pytest.raises(EvaluationError, match="two scenes are named 's0'"):
        ground_truth_gallery([scene("s0"), scene("s0")], [np.eye(2)] * 2)


def test_smaller_galleries_keep_targets_and_are_nested() -> None:
    large = protocol()
    previous: list[set[str]] = [set(), set()]
    for size in (1, 3, 10, 29, 100):
        small = with_gallery_size(large, size, seed=4)
        for index, names in enumerate(small.galleries):
            assert set(large.targets[index]) <= set(names) <= set(large.galleries[index])
            assert len(names) == min(max(size, len(large.targets[index])), 29)
            assert previous[index] <= set(names)
            assert list(names) == [name for name in NAMES if name in set(names)]
            previous[index] = set(names)
    assert list(with_gallery_size(large, 9).galleries[0]) == list(
        with_gallery_size(large, 9).galleries[0]
    )
    assert list(with_gallery_size(large, 9).galleries[0]) != list(
        with_gallery_size(large, 9, seed=1).galleries[0]
    )
    with pytest.raises(EvaluationError, match="expected at least 1"):
        with_gallery_size(large, 0)
