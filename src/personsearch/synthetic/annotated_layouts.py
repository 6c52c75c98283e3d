"""Chooses scenes of a real data set whose boxes, identities and cameras drawn scenes repeat."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median_high

import numpy as np

from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError
from personsearch.types import UNLABELLED, Scene

TEST_SHARE = 35
"""Percent of the identities, and of the scenes if not all are taken, that are for testing."""

_PER_ID = 8  # scenes of one identity, if not all are taken


def choose(dataset: Dataset, count: int | None) -> dict[str, list[Scene]]:
    """Choose at most `count` scenes whose identities recur, as ``train`` and ``test``.

    If the data set lacks one of these splits, the last `TEST_SHARE` percent of its identities, by
    first appearance, are for testing. A scene then goes to the side of most of its identities, and
    the others become unlabelled.

    Args:
        dataset: boxes, identities and cameras; the pictures are not needed.
        count: largest number of scenes; None takes all.

    Raises:
        DataError: fewer than two scenes have boxes.
    """
    if {"train", "test"} <= set(dataset.splits):
        whole = {split: list(dataset.splits[split]) for split in ("train", "test")}
    else:
        whole = _divided([scene for scene in dataset if len(scene.boxes)])
    held = {split: [s for s in scenes if len(s.boxes)] for split, scenes in whole.items()}
    total = sum(map(len, held.values()))
    if total < 2:
        raise DataError(
            f"{dataset.root}: {total} pictures with boxes; a layout needs at least two, with "
            "identities for training and for testing"
        )
    if count is None or count >= total:
        return held
    share = {"train": 100 - TEST_SHARE, "test": TEST_SHARE}
    return {
        split: _recurring(scenes, max(1, count * share[split] // 100))
        for split, scenes in held.items()
    }


def _divided(scenes: Sequence[Scene]) -> dict[str, list[Scene]]:
    # People who first appear together mostly stay together: dividing by first appearance keeps
    # most scenes on one side.
    known = dict.fromkeys(k for scene in scenes for k in scene.ids.tolist() if k != UNLABELLED)
    ids = list(known)
    tested = set(ids[len(ids) - len(ids) * TEST_SHARE // 100 :])
    divided: dict[str, list[Scene]] = {"train": [], "test": []}
    for scene in scenes:
        labelled = scene.ids != UNLABELLED
        mine = np.array([k in tested for k in scene.ids.tolist()], dtype=np.bool_)
        test = 2 * int(mine.sum()) > int(labelled.sum())
        kept = np.where(mine == test, scene.ids, UNLABELLED)
        divided["test" if test else "train"].append(replace(scene, ids=kept))
    return divided


def _recurring(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """Choose `count` scenes: up to eight of each identity, those of most cameras first."""
    shown: dict[int, list[int]] = {}
    for index, scene in enumerate(scenes):
        for identity in sorted(set(scene.ids.tolist()) - {UNLABELLED}):
            shown.setdefault(identity, []).append(index)
    cameras = {k: len({scenes[index].camera for index in held}) for k, held in shown.items()}
    chosen: dict[int, None] = {}
    for identity in sorted(shown, key=lambda k: (-cameras[k], -len(shown[k]), k)):
        held = sorted(shown[identity], key=lambda index: scenes[index].camera or 0)
        chosen |= dict.fromkeys(held[:: max(1, len(held) // _PER_ID)][:_PER_ID])
    chosen |= dict.fromkeys(range(len(scenes)))
    return [scenes[index] for index in sorted(list(chosen)[:count])]


def viewpoint(scenes: Sequence[Scene]) -> tuple[float, float, float]:
    """Estimate horizon, eye and far line, as in `optics.Camera`, from the boxes of a camera.

    On level ground a person's height is linear in the row of the feet; the medians of the farther
    and the nearer half of all boxes give that line.
    """
    height = float(scenes[0].size[1])
    feet = sorted((y2, y2 - y1) for scene in scenes for _, y1, _, y2 in scene.boxes.tolist())
    half = max(1, len(feet) // 2)
    far_foot, far_tall = map(median_high, zip(*feet[:half], strict=True))
    near_foot, near_tall = map(median_high, zip(*feet[-half:], strict=True))
    slope = (near_tall - far_tall) / (near_foot - far_foot) if near_foot > far_foot else 0.0
    slope = min(2.0, max(0.3, slope))
    horizon = min(0.45, max(0.02, (far_foot - far_tall / slope) / height))
    eye = (far_foot - horizon * height) / max(1.0, far_tall)
    lowest = feet[len(feet) // 20][0] / height
    return horizon, max(0.2, eye), min(0.8, max(horizon + 0.05, lowest - 0.02))
