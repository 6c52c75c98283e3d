"""The arithmetic of SeqNet's evaluator, where its last digit decides between two detections.

That code takes the product of each picture's embeddings with the query in float32. Two detections
whose exact similarities differ by less than float32 resolves may come out either way, and the
figures with them. So what lies near a right answer is computed again, picture by picture, as there.
"""

import numpy as np

from personsearch.evaluation.gallery import Listing, PackedGallery
from personsearch.types import FloatArray, IntArray


class PublishedSimilarities:
    """One query's similarities, replaced by the published ones as they are needed.

    Args:
        gallery: the gallery.
        embeddings: (N, D) its embeddings, already weighted if they are to be.
        largest_norm: of a row of `embeddings`.
        listing: which pictures the query looks through.
        query: (D,).
        values: (N,) similarities by position, exact to half a unit in the last place; changed in
            place. What is hidden from the query is -inf.
    """

    def __init__(
        self,
        gallery: PackedGallery,
        embeddings: FloatArray,
        largest_norm: float,
        listing: Listing,
        query: FloatArray,
        values: FloatArray,
    ) -> None:
        self._gallery, self._embeddings = gallery, embeddings
        self._listing, self._query, self._values = listing, query, values
        self._done: set[int] = set()
        # A float32 dot product of length D, in whatever order it is summed, errs by no more than
        # D * 2^-24 * |a| * |b|; the four more are the roundings around it.
        norm = float(np.linalg.norm(query.astype(np.float64))) * largest_norm
        self._error = (len(query) + 4) * 2.0**-24 * norm

    def use(self, pictures: IntArray) -> None:
        """Puts the published similarities of whole pictures in place."""
        starts, places = self._gallery.starts, self._listing.starts
        for picture in set(pictures.tolist()) - self._done:
            rows = self._embeddings[starts[picture] : starts[picture + 1]]
            place = places[picture]
            self._values[place : place + len(rows)] = rows.dot(self._query)
            self._done.add(picture)

    def use_near(self, similarities: FloatArray, errors: int = 1) -> None:
        """Puts them in place wherever they are within so many errors of given similarities."""
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
        self.use(np.searchsorted(self._gallery.starts, rows, side="right") - 1)


def published_targets(boxes: FloatArray) -> FloatArray:
    """Target boxes (T, 4) as SeqNet reads them: x and y are cut at 0 before the sides are added.

    A box that begins outside of the picture keeps its full size and so ends too far to the right or
    too low. A box that was already cut stays as it is.
    """
    corners = np.maximum(boxes[:, :2], 0)
    moved: FloatArray = boxes + np.tile(corners - boxes[:, :2], 2)
    return moved
