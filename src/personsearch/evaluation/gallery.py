"""The detections of all gallery pictures in one piece, and which of them a query looks through."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import EvaluationError
from personsearch.types import Detections, FloatArray, IntArray


class PackedGallery:
    """Detections above a score threshold, picture after picture.

    Attributes:
        names: P picture names in the order they were given.
        numbers: the index of each name.
        starts: (P + 1,) picture p holds rows ``starts[p]`` to ``starts[p + 1]``.
        boxes: (N, 4) float32.
        scores: (N,) float32.
        embeddings: (N, D) float32.

    Raises:
        EvaluationError: detections without embeddings, or embeddings of another length.
    """

    def __init__(self, gallery: Mapping[str, Detections], score_threshold: float, dim: int) -> None:
        self.names = tuple(gallery)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        kept = [found.scores >= score_threshold for found in gallery.values()]
        parts = [
            (found.boxes[k], found.scores[k], _checked(found.embeddings, name, dim)[k])
            for (name, found), k in zip(gallery.items(), kept, strict=True)
            if k.any()
        ]
        self.starts: IntArray = np.zeros(len(kept) + 1, dtype=np.int64)
        np.cumsum([k.sum() for k in kept], out=self.starts[1:])
        self.boxes: FloatArray = np.concatenate(
            [np.zeros((0, 4), np.float32), *(p[0] for p in parts)]
        )
        self.scores: FloatArray = np.concatenate([np.zeros(0, np.float32), *(p[1] for p in parts)])
        self.embeddings: FloatArray = np.concatenate(
            [np.zeros((0, dim), np.float32), *(p[2] for p in parts)]
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def rows_of(self, pictures: IntArray) -> IntArray:
        """All rows of some pictures, in the order of the pictures."""
        return ranges(self.starts[pictures], self.starts[pictures + 1])


def _checked(embeddings: FloatArray, name: str, dim: int) -> FloatArray:
    if embeddings.shape[1] != dim:
        came = f"are of length {embeddings.shape[1]}" if embeddings.shape[1] else "are missing"
        raise EvaluationError(
            f"gallery scene {name!r}: the embeddings {came}, the queries' have length {dim}; "
            "both must come from the same model"
        )
    return embeddings


def ranges(starts: IntArray, ends: IntArray) -> IntArray:
    """``start, start + 1, ..., end - 1`` of each pair, one after the other."""
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths
    joined: IntArray = np.repeat(starts - before, lengths) + np.arange(lengths.sum())
    return joined


@dataclass(frozen=True, eq=False)
class Listing:
    """A list of gallery pictures, each once, in order of first appearance.

    Attributes:
        pictures: (L,) picture numbers.
        times: (P,) how often each picture of the packed gallery was listed.
        rows: (N,) their rows; the index here is the position in a ranking's tie-break.
        starts: (P,) where a picture's positions start; only of use where `times` > 0.
    """

    pictures: IntArray
    times: IntArray
    rows: IntArray
    starts: IntArray


class Listings:
    """Turns the galleries of a protocol into rows; lists that queries share are read once."""

    def __init__(self, gallery: PackedGallery) -> None:
        self._gallery = gallery
        self._last: tuple[Sequence[str], Listing] | None = None
        self._excluded: dict[frozenset[str], IntArray] = {}

    def listing(self, names: Sequence[str]) -> Listing:
        """The list of names, without what a lazy gallery excludes from it.

        Raises:
            EvaluationError: a name without an entry in the gallery.
        """
        base: Sequence[str] = getattr(names, "names", names)
        if self._last is None or self._last[0] is not base:
            self._last = (base, self._read(base))
        return self._last[1]

    def excluded(self, names: Sequence[str]) -> IntArray:
        """Picture numbers that a lazy gallery excludes from its list; none for a plain one."""
        excluded: frozenset[str] = frozenset(getattr(names, "excluded", ()))
        if excluded not in self._excluded:
            if len(self._excluded) >= _KEPT:
                self._excluded.clear()
            known = (name for name in excluded if name in self._gallery.numbers)
            self._excluded[excluded] = self._numbers(known)
        return self._excluded[excluded]

    def _numbers(self, names: Iterable[str]) -> IntArray:
        numbers = self._gallery.numbers
        return np.fromiter((numbers[name] for name in names), dtype=np.int64)

    def _read(self, names: Sequence[str]) -> Listing:
        try:
            listed = self._numbers(names)
        except KeyError:
            missing = [name for name in names if name not in self._gallery.numbers]
            raise EvaluationError(
                f"no detections for {len(missing)} of {len(names)} scenes of a gallery, the first "
                f"is {missing[0]!r}; give an empty Detections where nobody was found"
            ) from None
        times: IntArray = np.bincount(listed, minlength=len(self._gallery.names)).astype(np.int64)
        pictures = listed
        if times.max(initial=0) > 1:
            pictures = listed[np.sort(np.unique(listed, return_index=True)[1])]
        lengths = self._gallery.starts[pictures + 1] - self._gallery.starts[pictures]
        starts = np.zeros(len(times), dtype=np.int64)
        starts[pictures] = np.cumsum(lengths) - lengths
        return Listing(pictures, times, self._gallery.rows_of(pictures), starts)


def similarity_block(
    queries: FloatArray, gallery: PackedGallery, confidence_weighted: bool
) -> NDArray[np.float32]:
    """(B, N) dot products of some queries with every row of the gallery.

    Summed in float64 and rounded once to float32, so that equal embeddings tie and no result
    depends on how the work is divided.
    """
    block = np.empty((len(queries), len(gallery)), dtype=np.float32)
    left = queries.astype(np.float64)
    for start in range(0, len(gallery), _ROWS):
        rows = slice(start, start + _ROWS)
        right = gallery.embeddings[rows].astype(np.float64)
        if confidence_weighted:
            right *= gallery.scores[rows, None]
        block[:, rows] = left @ right.T
    return block


_ROWS = 8192
"""Gallery rows in float64 at a time."""
_KEPT = 64
"""Sets of excluded names whose pictures are remembered; queries of one camera share one."""
