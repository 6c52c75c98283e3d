from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personsearch.datasets.galleries import Excluding, other_cameras, other_scenes
from personsearch.types import Query, Scene


def scene(name: str, camera: int | None) -> Scene:
    box, ids = np.array([[0, 0, 4, 9]], np.float32), np.array([7])
    return Scene(name, Path(name), (10, 10), box, ids, camera)


def query(name: str, camera: int | None) -> Query:
    return Query(name, np.array([0, 0, 4, 9], np.float32), 7, camera)


@given(
    st.lists(st.sampled_from("abcdefghij"), max_size=12),
    st.frozensets(st.sampled_from("abcdefghijxyz")),
)
def test_excluding_is_the_filtered_list(names: list[str], excluded: frozenset[str]) -> None:
    expected = [name for name in names if name not in excluded]
    gallery = Excluding(names, excluded)
    assert list(gallery) == expected
    assert len(gallery) == len(expected)
    assert [gallery[k] for k in range(len(expected))] == expected
    assert [gallery[k - len(expected)] for k in range(len(expected))] == expected
    assert gallery[1:4] == expected[1:4]
    assert all((name in gallery) == (name in expected) for name in "abcxyz")
    with pytest.raises(IndexError, match="no scene"):
        gallery[len(expected)]


def test_galleries_share_one_list() -> None:
    names = ["a", "b", "c"]
    galleries = other_scenes([query("a", None), query("c", None)], names)
    assert [list(gallery) for gallery in galleries] == [["b", "c"], ["a", "b"]]
    assert all(gallery.names is names for gallery in galleries)


def test_other_cameras() -> None:
    scenes = [scene("a1", 1), scene("b1", 1), scene("c2", 2), scene("d", None)]
    queries = [query("a1", 1), query("c2", 2), query("d", None), query("b1", 1)]
    galleries = other_cameras(queries, scenes)
    assert [list(gallery) for gallery in galleries] == [
        ["c2", "d"],
        ["a1", "b1", "d"],
        ["a1", "b1", "c2"],
        ["c2", "d"],
    ]
    # One set a camera, however many queries it has.
    assert galleries[0].excluded is galleries[3].excluded
    assert galleries[0].names is galleries[1].names
