"""The arithmetic of SeqNet's evaluator, where its last digit decides between two detections.

That code multiplies each picture's embeddings with the query in float32. The order of two
detections whose exact similarities differ by less than float32 resolves depends on it, and so do
the metrics. Similarities near a right answer are therefore computed again, picture by picture.
"""

import numpy as np

from personsearch.evaluation.gallery import Listing
from personsearch.types import FloatArray, IntArray


class PublishedSimilarities:
    """One query's similarities, replaced by the published ones where needed.

    Args:
        listing: the pictures to search.
        embeddings: (N, D) of its gallery, weighted if similarities are.
        largest_norm: of a row of `embeddings`.
        query: (D,).
        values: (N,) similarities by position, exact to half a unit in the last place, -inf where
            hidden; changed in place.
    """

    def __init__(
        self,
        listing: Listing,
        embeddings: FloatArray,
        largest_norm: float,
        query: FloatArray,
        values: FloatArray,
    ) -> None:
        self._gallery, self._listing, self._embeddings = listing.gallery, listing, embeddings
        self._query, self._values = query, values
        self._done: set[int] = set()
        # A float32 dot product of length D, in whatever order it is summed, errs by no more than
        # D * 2^-24 * |a| * |b|; the four more are the roundings around it.
        norm = float(np.linalg.norm(query.astype(np.float64))) * largest_norm
        self._error = (len(query) + 4) * 2.0**-24 * norm

    def use(self, pictures: IntArray) -> None:
        """Insert the published similarities of whole pictures."""
        starts = self._gallery.starts
        for picture in set(pictures.tolist()) - self._done:
            rows = self._embeddings[starts[picture] : starts[picture + 1]]
            position = self._listing.starts[picture]
            self._values[position : position + len(rows)] = rows.dot(self._query)
            self._done.add(picture)

    def use_near(self, similarities: FloatArray, errors: int = 1) -> None:
        """Insert those of pictures with a similarity within `errors` errors of a given one."""
        marks = np.sort(similarities.astype(np.float64))
        if not len(marks):
            return
        reach = errors * self._error
        positions = np.flatnonzero(self._values >= marks[0] - reach)
        values = self._values[positions].astype(np.float64)
        above = np.searchsorted(marks, values)
        near = np.abs(marks[np.minimum(above, len(marks) - 1)] - values) <= reach
        near |= np.abs(marks[np.maximum(above - 1, 0)] - values) <= reach
        rows = self._listing.rows[positions[near]]
        self.use(self._gallery.pictures_of(rows))


def published_targets(boxes: FloatArray) -> FloatArray:
    """Return target boxes (T, 4) as SeqNet reads them: moved so that x1 and y1 are at least 0.

    That code cuts x and y at 0 before it adds the sides, so a box keeps its full size.
    """
    corners = np.maximum(boxes[:, :2], 0)
    moved: FloatArray = boxes + np.tile(corners - boxes[:, :2], 2)
    return moved
