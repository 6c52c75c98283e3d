"""Detections to ignore, by the rules of two published evaluators of PRW.

Each detection belongs to the annotated person that it overlaps most. Under the evaluation code
published with PRW, from an IoU of 0.5 it is that person, from 0.3 to 0.5 it is ignored, below 0.3
it is a false alarm. Of several detections of one person, the best overlap counts and the others are
ignored, as are the people that the protocol ignores.

Under `known_only`, the rule of Han, Ko and Sim's evaluator (the repository CUCPS_official of
VIP-Lab-UNIST on GitHub), a detection below 0.5 has no person. Detections without a person, and
those of ignored people, are removed first; the others are scored as under other protocols.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch import boxes as box_math
from personsearch.errors import EvaluationError
from personsearch.evaluation.gallery import PackedGallery
from personsearch.types import FloatArray, IntArray, SearchProtocol

SAME, NEAR = 0.5, 0.3
"""Lowest IoU of a detection of a person, and of an ignored one."""


@dataclass(frozen=True, eq=False)
class _Assignment:
    """The annotated person of each row of the gallery."""

    starts: IntArray  # (P + 1,) picture p has the people starts[p] to starts[p + 1]
    boxes: FloatArray  # (M, 4) annotated people
    people: IntArray  # (N,) index of each detection's person, -1 for nobody
    unclear: NDArray[np.bool_]  # (N,) to ignore: near a person, or not a person's best


class IgnoreRule:
    """Sorts the gallery of a protocol with `ignored` people into right, ignored and others.

    Raises:
        EvaluationError: an ignored or target box that is not among `annotated`, where those are
            given.
    """

    def __init__(self, protocol: SearchProtocol, gallery: PackedGallery) -> None:
        self._protocol, self._gallery = protocol, gallery
        self._shared = None if protocol.annotated is None else _assign(gallery, protocol.annotated)
        self._last: tuple[Mapping[str, FloatArray], NDArray[np.bool_]] | None = None

    def sort(
        self, index: int, targets: Mapping[str, FloatArray]
    ) -> tuple[IntArray | None, IntArray]:
        """Return the gallery rows that are right answers of a query, and those it ignores.

        Under `known_only` the former are None: it has no rule of its own for them.
        """
        ignored = self._protocol.ignored[index]
        assignment = self._shared or _assign(self._gallery, _joined(targets, ignored))
        if self._shared is None or self._last is None or self._last[0] is not ignored:
            self._last = (ignored, self._mark(assignment, ignored))
        # The last mark is that of nobody (-1).
        known_only = self._protocol.known_only
        marked = np.append(self._last[1], known_only)[assignment.people]
        if known_only:
            return None, np.flatnonzero(marked)
        wanted = np.append(self._mark(assignment, targets), False)[assignment.people]
        right = wanted & ~assignment.unclear
        return np.flatnonzero(right), np.flatnonzero((assignment.unclear | marked) & ~right)

    def _mark(self, assignment: _Assignment, boxes: Mapping[str, FloatArray]) -> NDArray[np.bool_]:
        """Return a mask (M,) of the annotated people with one of some boxes."""
        marks = np.zeros(len(assignment.boxes), dtype=np.bool_)
        for name, given in boxes.items():
            picture = self._gallery.numbers.get(name)
            if picture is None:
                continue
            people = slice(assignment.starts[picture], assignment.starts[picture + 1])
            equal = (assignment.boxes[people, None] == given.reshape(-1, 4)[None]).all(axis=2)
            if not equal.any(axis=0).all():
                raise EvaluationError(
                    f"protocol {self._protocol.name!r}: an ignored or target box of scene {name!r} "
                    "is not among its annotated boxes"
                )
            marks[people] |= equal.any(axis=1)
        return marks


def _joined(
    targets: Mapping[str, FloatArray], ignored: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    joined = {name: box.reshape(1, 4) for name, box in targets.items()}
    for name, boxes in ignored.items():
        joined[name] = np.concatenate([joined.get(name, np.zeros((0, 4))), boxes.reshape(-1, 4)])
    return joined


def _assign(gallery: PackedGallery, annotated: Mapping[str, FloatArray]) -> _Assignment:
    none = np.zeros((0, 4), dtype=np.float32)
    parts = [annotated.get(name, none).reshape(-1, 4) for name in gallery.names]
    starts = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=starts[1:])
    people = np.full(len(gallery), -1, dtype=np.int64)
    unclear = np.zeros(len(gallery), dtype=np.bool_)
    for picture, part in enumerate(parts):
        rows = np.arange(gallery.starts[picture], gallery.starts[picture + 1])
        if not len(part) or not len(rows):
            continue
        ious = box_math.iou(gallery.boxes[rows].astype(np.float64), part.astype(np.float64))
        best, overlap = ious.argmax(axis=1), ious.max(axis=1)
        unclear[rows] = (overlap >= NEAR) & (overlap < SAME)
        is_person = overlap >= SAME
        people[rows[is_person]] = starts[picture] + best[is_person]
        for person in np.unique(best[is_person]):
            mine = np.flatnonzero(is_person & (best == person))
            unclear[rows[np.delete(mine, overlap[mine].argmax())]] = True
    return _Assignment(starts, np.concatenate([none, *parts]), people, unclear)
