from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from personsearch.datasets.dataset import Dataset
from personsearch.datasets.validation import split_validation
from personsearch.errors import DataError
from personsearch.types import UNLABELLED, Scene


def make(num_ids: int = 40, pictures: int = 300, source_ids: bool = False) -> Dataset:
    """Crowded pictures of two cameras; every tenth shows nobody who is known."""
    rng = np.random.default_rng(0)
    scenes = []
    for k in range(pictures):
        ids = rng.choice(num_ids, rng.integers(1, 6), replace=False)
        ids = np.array([UNLABELLED]) if k % 10 == 0 else np.append(ids, UNLABELLED)
        if k < num_ids:
            ids = np.unique(np.append(ids, k))
        boxes = np.array([[9 * j, 0, 9 * j + 5, 20] for j in range(len(ids))], np.float32)
        scenes.append(Scene(f"{k}.jpg", Path(f"{k}.jpg"), (99, 99), boxes, ids, k % 2))
    source = [1000 + k for k in range(num_ids)] if source_ids else None
    return Dataset("mine", Path(), {"train": scenes, "test": []}, source_ids=source)


def known(scenes: object) -> set[int]:
    return {i for scene in scenes for i in scene.ids.tolist() if i != UNLABELLED}  # type: ignore


def test_no_identity_and_no_picture_is_on_both_sides() -> None:
    dataset = make(source_ids=True)
    split = split_validation(dataset, 0.2, seed=3)
    assert list(split.splits) == ["train", "val", "test"]
    train, val = split.split("train"), split.split("val")
    assert {s.name for s in train} | {s.name for s in val} == {s.name for s in dataset}
    assert len(train) + len(val) == 300
    assert known(train) == set(range(32))
    assert split.source_ids is not None
    assert known(val) | set(split.source_ids) == set(range(1000, 1040))
    assert not known(val) & set(split.source_ids)
    # Every label that is left is the one it was; the others are counted.
    old = {scene.name: scene for scene in dataset}
    lost = 0
    for scene in [*train, *val]:
        numbers = split.source_ids if scene in train else {i: i for i in range(1000, 1040)}
        for before, after in zip(old[scene.name].ids.tolist(), scene.ids.tolist(), strict=True):
            if after != UNLABELLED:
                assert numbers[after] == 1000 + before
            lost += before != after == UNLABELLED
    assert lost == len(split.dropped) > 0


def test_about_a_fraction_goes_and_can_be_searched() -> None:
    split = split_validation(make(), 0.2)
    assert 50 <= len(split.split("val")) <= 70
    protocol = split.protocol("val")
    assert {query.id for query in protocol.queries} == known(split.split("val"))
    assert len(known(split.split("val"))) == 8
    assert all(len(targets) for targets in protocol.targets)
    assert {q.camera for q in protocol.queries} == {0, 1}


def test_the_seed_decides() -> None:
    def names(seed: int) -> list[str]:
        return [scene.name for scene in split_validation(make(), 0.1, seed).split("val")]

    assert names(1) == names(1)
    assert names(1) != names(2)


def test_other_protocols_stay() -> None:
    split = split_validation(make())
    assert list(split.protocols) == ["val"]
    again = replace(make(), protocols={"mine": split.protocols["val"]})
    assert list(split_validation(again).protocols) == ["val", "mine"]
    assert split_validation(again).protocols["mine"] is split.protocols["val"]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_an_impossible_fraction(fraction: float) -> None:
    with pytest.raises(DataError, match="expected a number between 0 and 1"):
        split_validation(make(), fraction)


def test_what_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 labelled identities in train, expected at least 2"):
        split_validation(_single())
    with pytest.raises(DataError, match="has a validation split already"):
        split_validation(split_validation(make()))
    with pytest.raises(DataError, match="has no split 'train'"):
        split_validation(Dataset("mine", Path(), {}))


def _single() -> Dataset:
    scene = Scene("a", Path("a"), (9, 9), np.array([[0, 0, 4, 4]]), np.array([0]))
    return Dataset("mine", Path(), {"train": [scene]})
