"""Similarities of labelled people to themselves and to others, as in a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.boxes import iou
from personsearch.errors import DataError
from personsearch.types import UNLABELLED, Detections, FloatArray, IntArray, Scene

if TYPE_CHECKING:
    from personsearch.evaluation.runner import Progress
    from personsearch.systems.base import PersonSearchModel

Across = Literal["cameras", "pictures"]
"""Which pairs are used: of two cameras, or of two pictures of any camera."""

MIN_IOU = 0.5
"""Overlap from which on a detection is the labelled person."""
ENOUGH = 10
"""People seen by two cameras from which on only pairs of two cameras are used."""


@dataclass(frozen=True, eq=False)
class LabelledPeople:
    """Embeddings of the labelled people of one data set."""

    vectors: FloatArray  # (N, D) float32 of unit length
    ids: IntArray  # (N,) identities
    pictures: IntArray  # (N,) indices of the pictures
    cameras: IntArray  # (N,) -1 where not known


@dataclass(frozen=True, eq=False)
class Pairs:
    """Similarities of pairs of people, with identities from zero."""

    same: FloatArray  # (S,) similarities of two views of one person
    same_ids: IntArray  # (S,) identities of these people
    other: FloatArray  # (O,) similarities of two people
    other_ids: IntArray  # (O, 2) identities of these people
    across: Across = "pictures"


def embed_people(
    model: "PersonSearchModel",
    scenes: Sequence[Scene],
    *,
    true_boxes: bool = False,
    score_threshold: float = 0.3,
    progress: "Progress | None" = None,
) -> LabelledPeople:
    """Detect and embed the labelled people; at most one detection a person and picture.

    With `true_boxes` the labelled boxes themselves are embedded, detected or not.
    """
    from personsearch.evaluation.runner import detect_scenes, embed_scenes
    from personsearch.systems.inference import as_cosines

    dim = model.embedding_dim
    if true_boxes:
        boxes = [scene.boxes[scene.ids != UNLABELLED] for scene in scenes]
        ids = [scene.ids[scene.ids != UNLABELLED] for scene in scenes]
        people = _gathered(scenes, ids, embed_scenes(model, scenes, boxes, progress=progress), dim)
    else:
        detected = detect_scenes(model, scenes, progress=progress)
        people = match_people(scenes, detected, dim, score_threshold=score_threshold)
    return replace(people, vectors=as_cosines(model, people.vectors))


def match_people(
    scenes: Sequence[Scene],
    detected: Mapping[str, Detections],
    dim: int,
    *,
    score_threshold: float = 0.3,
) -> LabelledPeople:
    """Match detections, by scene name, to labelled people; one a person and picture at most."""
    ids, vectors = [], []
    for scene in scenes:
        one = detected[scene.name]
        kept = one.scores >= score_threshold
        # Unlabelled boxes are matched, too, so that they are not taken for labelled neighbours.
        boxes, rows = _assigned(iou(scene.boxes, one.boxes[kept]))
        labelled = scene.ids[boxes] != UNLABELLED
        ids.append(scene.ids[boxes][labelled])
        vectors.append(one.embeddings[kept][rows][labelled])
    return _gathered(scenes, ids, vectors, dim)


def _gathered(
    scenes: Sequence[Scene], ids: Sequence[IntArray], vectors: Sequence[FloatArray], dim: int
) -> LabelledPeople:
    counts = [len(part) for part in ids]
    cameras = [-1 if scene.camera is None else scene.camera for scene in scenes]
    return LabelledPeople(
        np.concatenate([np.zeros((0, dim), np.float32), *vectors]),
        np.concatenate([np.zeros(0, np.int64), *ids]),
        np.repeat(np.arange(len(scenes)), counts),
        np.repeat(np.array(cameras, np.int64), counts),
    )


def _assigned(overlap: NDArray[np.floating]) -> tuple[IntArray, IntArray]:
    """Rows and columns of the greedily best pairs, each used once, down to `MIN_IOU`."""
    pairs: dict[int, int] = {}
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = divmod(int(flat), overlap.shape[1])
        if overlap[row, column] < MIN_IOU:
            break
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return np.array(list(pairs), np.int64), np.array(list(pairs.values()), np.int64)


def make_pairs(
    parts: Sequence[LabelledPeople], across: Across | None = None, *, most: int = 4000
) -> Pairs:
    """Return every pair of views in two pictures of one data set, each of which is a part.

    Above `most` views of a data set, complete identities are left out, drawn with a fixed seed.
    Without `across`, pairs are of two cameras where enough people are seen by two.

    Raises:
        DataError: nobody is seen twice, or only one person is labelled.
    """
    if across is None:
        twice = sum(_seen_by_two(part) for part in parts)
        across = "cameras" if twice >= ENOUGH else "pictures"
    found: list[tuple[FloatArray, IntArray, FloatArray, IntArray]] = []
    before = 0
    for part in parts:
        names, ids = np.unique(part.ids, return_inverse=True)
        rows = _fewer(ids, most)
        found.append(_compare(part, rows, ids[rows] + before, across))
        before += len(names)
    same, same_ids, other, other_ids = map(np.concatenate, zip(*found, strict=True))
    if not len(same) or not len(other):
        raise DataError(
            f"{len(same)} pairs of the same person and {len(other)} of two people in different "
            f"{across}; expected some of both: label identities in several {across}"
        )
    return Pairs(same, same_ids, other, other_ids, across)


def _seen_by_two(part: LabelledPeople) -> int:
    views = np.unique(np.stack([part.ids, part.cameras])[:, part.cameras >= 0], axis=1)
    _, counts = np.unique(views[0], return_counts=True)
    return int((counts > 1).sum())


def _fewer(ids: IntArray, most: int) -> IntArray:
    """Rows of as many complete identities as may be compared."""
    counts = np.bincount(ids)
    drawn = np.random.default_rng(0).permutation(len(counts))
    kept = drawn[np.cumsum(counts[drawn]) <= most]
    rows: IntArray = np.flatnonzero(np.isin(ids, kept))
    return rows


def _compare(
    part: LabelledPeople, rows: IntArray, ids: IntArray, across: Across
) -> tuple[FloatArray, IntArray, FloatArray, IntArray]:
    vectors, pictures, cameras = part.vectors[rows], part.pictures[rows], part.cameras[rows]
    apart = np.triu(pictures[:, None] != pictures[None], 1)
    if across == "cameras":
        known = cameras >= 0
        apart &= (cameras[:, None] != cameras[None]) & known[:, None] & known[None]
    similarity = vectors @ vectors.T
    equal = ids[:, None] == ids[None]
    left, right = np.nonzero(apart & equal)
    same, same_ids = similarity[left, right], ids[left]
    left, right = np.nonzero(apart & ~equal)
    return same, same_ids, similarity[left, right], np.stack([ids[left], ids[right]], axis=1)
