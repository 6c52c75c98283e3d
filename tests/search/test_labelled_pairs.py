"""Pairs of labelled people against plain loops; detections belong to the boxes they overlap."""

from pathlib import Path

import numpy as np
import pytest
from blocks import GREEN, ORANGE, RED, Blocks, paint

from personsearch.errors import DataError
from personsearch.search.labelled_pairs import Across, LabelledPeople, embed_people, make_pairs
from personsearch.types import Scene


def people(seed: int = 0, count: int = 40, cameras: int = 3) -> LabelledPeople:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return LabelledPeople(
        vectors,
        rng.integers(5, 18, count),
        np.sort(rng.integers(0, 12, count)),
        rng.integers(-1, cameras, count),
    )


@pytest.mark.parametrize("across", ["cameras", "pictures"])
def test_equals_the_plain_loop(across: Across) -> None:
    parts = [people(0), people(1)]
    expected: dict[bool, list[float]] = {True: [], False: []}
    for part in parts:
        for a in range(len(part.ids)):
            for b in range(a):
                apart = part.pictures[a] != part.pictures[b]
                if across == "cameras":
                    known = min(part.cameras[a], part.cameras[b]) >= 0
                    apart = apart and known and part.cameras[a] != part.cameras[b]
                if apart:
                    same = bool(part.ids[a] == part.ids[b])
                    expected[same].append(float(part.vectors[a] @ part.vectors[b]))
    pairs = make_pairs(parts, across)
    assert pairs.across == across
    np.testing.assert_allclose(np.sort(pairs.same), np.sort(expected[True]), atol=1e-6)
    np.testing.assert_allclose(np.sort(pairs.other), np.sort(expected[False]), atol=1e-6)
    # People of the second data set are others, whatever their numbers.
    first = pairs.other_ids < len(np.unique(parts[0].ids))
    assert (first[:, 0] == first[:, 1]).all()
    assert 0 < first[:, 0].sum() < len(first)
    assert (pairs.other_ids[:, 0] != pairs.other_ids[:, 1]).all()


def test_other_cameras_where_enough_people_are_seen_by_two() -> None:
    assert make_pairs([people(count=200)]).across == "cameras"
    assert make_pairs([people(count=200, cameras=1)]).across == "pictures"


def test_too_many_views_leave_whole_people_out() -> None:
    part = people(count=200)
    pairs = make_pairs([part], "pictures", most=80)
    kept = np.unique(pairs.other_ids)
    _, ids = np.unique(part.ids, return_inverse=True)
    assert 0 < np.isin(ids, kept).sum() <= 80
    alone = [a for a in range(200) for b in range(a) if ids[a] == ids[b] and ids[a] in kept]
    apart = [a for a in alone if ids[a] in kept]
    assert len(pairs.same) <= len(apart)


def test_nobody_twice_is_said() -> None:
    part = people()
    once = LabelledPeople(part.vectors, np.arange(40), part.pictures, part.cameras)
    with pytest.raises(DataError, match="0 pairs of the same person"):
        make_pairs([once])


@pytest.mark.parametrize("true_boxes", [False, True])
def test_who_is_seen(tmp_path: Path, true_boxes: bool) -> None:
    """Two labelled people, one a little beside the box, and one whose box is of nobody."""
    paths = [paint(tmp_path / f"{n}.png", RED, GREEN, ORANGE) for n in range(2)]
    boxes = np.array([[0, 0, 10, 20], [22, 2, 30, 20], [45, 10, 60, 30]], np.float32)
    ids = np.array([3, 4, -1])
    scenes = [
        Scene(path.name, path, (60, 30), boxes, ids, camera=None if n else 7)
        for n, path in enumerate(paths)
    ]
    seen = embed_people(Blocks(), scenes, true_boxes=true_boxes)
    assert seen.ids.tolist() == [3, 4, 3, 4]
    assert seen.pictures.tolist() == [0, 0, 1, 1]
    assert seen.cameras.tolist() == [7, 7, -1, -1]
    np.testing.assert_allclose(seen.vectors, np.eye(3)[[0, 1, 0, 1]], atol=1e-6)
    model = Blocks()
    model.metric, embedded = "euclidean", model.embed
    model.embed = lambda images, given: [3 * rows for rows in embedded(images, given)]
    longer = embed_people(model, scenes, true_boxes=true_boxes)
    np.testing.assert_allclose(longer.vectors, seen.vectors, atol=1e-6)
    far = [Scene("a", paths[0], (60, 30), boxes + 6, ids)]
    assert len(embed_people(Blocks(), far).ids) == 0
