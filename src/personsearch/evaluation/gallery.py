"""The detections of all gallery pictures in one array, and their similarities to queries."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import EvaluationError
from personsearch.types import Detections, FloatArray, IntArray


class PackedGallery:
    """Detections above a score threshold, picture after picture.

    Attributes:
        names: P picture names in the given order.
        numbers: index of each name.
        sizes: (P,) detections of each picture.
        starts: (P + 1,) picture p holds rows ``starts[p]`` to ``starts[p + 1]``.
        boxes, scores, embeddings: (N, 4), (N,) and (N, D), float32.

    Raises:
        EvaluationError: detections without embeddings, or embeddings of another length.
    """

    boxes: FloatArray
    scores: FloatArray
    embeddings: FloatArray

    def __init__(self, gallery: Mapping[str, Detections], score_threshold: float, dim: int) -> None:
        self.names = tuple(gallery)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.sizes: IntArray = np.zeros(len(gallery), dtype=np.int64)
        parts = [tuple(np.zeros(shape, np.float32) for shape in ((0, 4), (0,), (0, dim)))]
        for number, (name, found) in enumerate(gallery.items()):
            kept = found.scores >= score_threshold
            if not kept.any():
                continue
            length = found.embeddings.shape[1]
            if length != dim:
                received = f"are of length {length}" if length else "are missing"
                raise EvaluationError(
                    f"gallery scene {name!r}: the embeddings {received}, the queries' have length "
                    f"{dim}; both must come from the same model"
                )
            self.sizes[number] = kept.sum()
            parts.append((found.boxes[kept], found.scores[kept], found.embeddings[kept]))
        self.starts: IntArray = np.append(0, np.cumsum(self.sizes))
        self.boxes, self.scores, self.embeddings = map(np.concatenate, zip(*parts, strict=True))

    def __len__(self) -> int:
        return len(self.boxes)

    def rows_of(self, pictures: IntArray) -> IntArray:
        """Return all rows of some pictures, in the order of the pictures."""
        return ranges(self.starts[pictures], self.sizes[pictures])

    def pictures_of(self, rows: IntArray) -> IntArray:
        """Return the picture of each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def known(self, names: Iterable[str]) -> IntArray:
        """Return the numbers of those pictures that are in this gallery."""
        return self._numbers(name for name in names if name in self.numbers)

    def _numbers(self, names: Iterable[str]) -> IntArray:
        return np.fromiter((self.numbers[name] for name in names), dtype=np.int64)

    def listing(self, names: Sequence[str]) -> "Listing":
        """List some pictures.

        Raises:
            EvaluationError: a name without an entry in this gallery.
        """
        try:
            listed = self._numbers(names)
        except KeyError:
            missing = [name for name in names if name not in self.numbers]
            raise EvaluationError(
                f"no detections for {len(missing)} of {len(names)} scenes of a gallery, the first "
                f"is {missing[0]!r}; give an empty Detections where nobody was found"
            ) from None
        times: IntArray = np.bincount(listed, minlength=len(self.names)).astype(np.int64)
        pictures = listed
        if times.max(initial=0) > 1:
            pictures = listed[np.sort(np.unique(listed, return_index=True)[1])]
        lengths = self.sizes[pictures]
        starts = np.zeros(len(times), dtype=np.int64)
        starts[pictures] = np.cumsum(lengths) - lengths
        return Listing(self, times, self.rows_of(pictures), starts)


def ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """Concatenate ``start, start + 1, ..., start + length - 1`` of each pair."""
    before = np.cumsum(lengths) - lengths
    joined: IntArray = np.repeat(starts - before, lengths) + np.arange(lengths.sum())
    return joined


@dataclass(frozen=True, eq=False)
class Listing:
    """A list of gallery pictures, each once, in order of first appearance."""

    gallery: PackedGallery  # of P pictures
    times: IntArray  # (P,) how often each picture was listed
    rows: IntArray  # (N,) of the listed pictures; the index is the position that breaks ties
    starts: IntArray  # (P,) first position of each picture; undefined where `times` is 0

    def positions(self, pictures: IntArray) -> IntArray:
        """Return all positions of some listed pictures, in the order of the pictures."""
        return ranges(self.starts[pictures], self.gallery.sizes[pictures])

    def positions_of(self, rows: IntArray) -> IntArray:
        """Return the positions of some rows, leaving out rows of pictures that are not listed."""
        pictures = self.gallery.pictures_of(rows)
        listed = self.times[pictures] > 0
        rows, pictures = rows[listed], pictures[listed]
        positions: IntArray = self.starts[pictures] + rows - self.gallery.starts[pictures]
        return positions


Vectors = NDArray[np.float64]


class Metric(Protocol):
    """A similarity that is the dot product of a mapped query and a mapped gallery row.

    The two maps may differ: a term of the gallery row's own is one more column, beside a column of
    ones of the query. Embeddings (N, D) come in float64, and so do mapped ones (N, D') leave.
    """

    def query(self, embeddings: Vectors, /) -> Vectors: ...

    def gallery(self, embeddings: Vectors, /) -> Vectors: ...


class Cosine:
    """The dot product q . g, which is the cosine of embeddings of unit length."""

    def query(self, embeddings: Vectors) -> Vectors:
        return embeddings

    gallery = query


class Euclidean:
    """The negative squared Euclidean distance -|q - g|^2 = 2 q . g - |q|^2 - |g|^2."""

    def query(self, embeddings: Vectors) -> Vectors:
        squares = np.einsum("nd,nd->n", embeddings, embeddings)
        return np.column_stack([2.0 * embeddings, -squares, np.ones(len(embeddings))])

    def gallery(self, embeddings: Vectors) -> Vectors:
        squares = np.einsum("nd,nd->n", embeddings, embeddings)
        return np.column_stack([embeddings, np.ones(len(embeddings)), -squares])


METRICS: Mapping[str, Metric] = {"cosine": Cosine(), "euclidean": Euclidean()}
"""The metrics that a system can declare, by name."""


def similarity_block(
    queries: FloatArray,
    gallery: PackedGallery,
    confidence_weighted: bool,
    metric: Metric = METRICS["cosine"],
) -> NDArray[np.float32]:
    """Return the similarities (B, N) of some queries to every row of the gallery.

    Summed in float64 and rounded once to float32, so that equal embeddings tie and no result
    depends on how the work is divided.
    """
    block = np.empty((len(queries), len(gallery)), dtype=np.float32)
    left = metric.query(queries.astype(np.float64))
    for start in range(0, len(gallery), _ROWS):
        rows = slice(start, start + _ROWS)
        right = metric.gallery(gallery.embeddings[rows].astype(np.float64))
        if confidence_weighted:
            right = right * gallery.scores[rows, None]
        block[:, rows] = left @ right.T
    return block


_ROWS = 8192
"""Gallery rows in float64 at a time."""
