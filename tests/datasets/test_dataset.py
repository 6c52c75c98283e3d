"""A data set gives its splits and protocols by name, and names those it has."""

from pathlib import Path

import numpy as np
import pytest

from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError
from personsearch.types import Scene, SearchProtocol


def _scene(name: str) -> Scene:
    return Scene(name, Path(name), (5, 5), np.zeros((0, 4)), np.zeros(0, np.int64))  # type: ignore[arg-type]


def _dataset() -> Dataset:
    protocol = SearchProtocol(name="regular", queries=[], galleries=[], targets=[])
    splits = {"train": [_scene("a"), _scene("b")], "test": [_scene("c")]}
    return Dataset("toy", Path("toy"), splits, {"regular": protocol})


def test_splits_and_protocols_by_name() -> None:
    data = _dataset()
    assert [s.name for s in data.split("train")] == ["a", "b"]
    assert data.protocol("regular").name == "regular"
    assert [s.name for s in data] == ["a", "b", "c"]


def test_other_names_are_answered_with_those_there_are() -> None:
    with pytest.raises(DataError, match="'toy' at toy has no split 'val'; it has 'train', 'test'"):
        _dataset().split("val")
    with pytest.raises(DataError, match="no protocol 'full'; it has 'regular'"):
        _dataset().protocol("full")
    with pytest.raises(DataError, match="it has none"):
        Dataset("bare", Path("bare"), {}).split("train")


def test_defaults() -> None:
    bare = Dataset("bare", Path("bare"), {})
    assert (bare.object_class, len(bare.dropped), len(bare.protocols)) == ("person", 0, 0)
    assert bare.source_ids is None
    assert list(bare) == []
