"""Scores the queries of one protocol one after the other, on similarities made in blocks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import EvaluationError
from personsearch.evaluation.context_matching import ContextMatching, match_context
from personsearch.evaluation.gallery import (
    Listing,
    Listings,
    PackedGallery,
    ranges,
    similarity_block,
)
from personsearch.evaluation.ignoring import IgnoreRule
from personsearch.evaluation.matching import first_matches
from personsearch.evaluation.ranking import (
    Keys,
    average_precision,
    key_positions,
    ranking_keys,
    stable_ranks,
    tied_ranks,
)
from personsearch.evaluation.seqnet import PublishedSimilarities, published_targets
from personsearch.types import FloatArray, IntArray, SearchProtocol


@dataclass(frozen=True, eq=False)
class RankedHit:
    """One detection in the ranking of a query.

    Attributes:
        scene: the gallery scene.
        box: (4,) float32.
        score: the detection's.
        similarity: what it is ranked by.
        correct: whether it is the right answer of its scene.
    """

    scene: str
    box: FloatArray
    score: float
    similarity: float
    correct: bool


@dataclass(frozen=True, eq=False)
class QueryScore:
    """How one query did; see `SearchResult`."""

    average_precision: float
    first_rank: int
    num_targets: int
    num_found: int
    hits: Sequence[RankedHit]


class Scoring:
    """One protocol on one gallery.

    Positions number the detections that a query's list of pictures holds, in its order; rows number
    those of the packed gallery.

    Args:
        protocol: who is looked for, where.
        gallery: what was detected.
        queries: (Q, D) embeddings, finite.
        published: reproduce SeqNet's figures.
        confidence_weighted: multiply each similarity by the detection's score.
        context: match the people around the query.
        ranked: how many hits to return a query.
    """

    def __init__(
        self,
        protocol: SearchProtocol,
        gallery: PackedGallery,
        queries: FloatArray,
        published: bool,
        confidence_weighted: bool,
        context: ContextMatching | None,
        ranked: int,
    ) -> None:
        self.protocol, self.gallery, self.queries = protocol, gallery, queries
        self.published, self.confidence_weighted = published, confidence_weighted
        self.context, self.ranked = context, ranked
        self._listings = Listings(gallery)
        self._sizes = np.diff(gallery.starts)
        self._ignore_rule = IgnoreRule(protocol, gallery) if protocol.ignored else None
        self._weighted: FloatArray = gallery.embeddings
        if confidence_weighted and (published or context is not None):
            self._weighted = gallery.embeddings * gallery.scores[:, None]
        self._largest_norm = float(np.sqrt(_squares(self._weighted).max(initial=0)))

    def scores(self) -> Iterator[QueryScore]:
        """How each query did, in the protocol's order.

        Raises:
            EvaluationError: a gallery scene without detections, or a target outside its gallery.
        """
        size = max(1, _BLOCK // max(len(self.gallery), 1))
        for start in range(0, len(self.queries), size):
            part = self.queries[start : start + size]
            block = similarity_block(part, self.gallery, self.confidence_weighted)
            for offset, similarities in enumerate(block):
                yield self._score(start + offset, similarities)

    def _score(self, index: int, similarities: FloatArray) -> QueryScore:
        """One query, given its similarity to every row of the gallery."""
        names = self.protocol.galleries[index]
        listing = self._listings.listing(names)
        values = similarities[listing.rows]
        hidden = self._hidden(index, names, listing)
        values[self._positions(listing, hidden)] = -np.inf
        targets = self._targets(index, hidden, listing)
        pictures = np.array([self.gallery.numbers[name] for name in targets], dtype=np.int64)
        num_targets = int(listing.times[pictures].sum()) if self.published else len(targets)

        exact = self._published_similarities(index, listing, values)
        if self.context is not None:
            self._match_context(index, listing, values, exact)
        if exact:
            exact.use(pictures)
        right = self._right_answers(index, listing, values, targets, pictures)
        if exact:
            exact.use_near(values[right])
        keys = np.sort(ranking_keys(values[right], right))
        ordered = self._ordered(values, right)
        ranks, found = stable_ranks(ordered, keys), None
        first = int(ranks[0]) if len(ranks) else 0
        if self.published:
            ranks, found = tied_ranks(ordered, keys), tied_ranks(keys, keys)
        return QueryScore(
            average_precision=(
                average_precision(ranks, num_targets, self.protocol.average_precision, found)
                if num_targets
                else np.nan
            ),
            first_rank=first,
            num_targets=num_targets,
            num_found=len(right),
            hits=self._hits(listing, values, right, ordered[: self.ranked]),
        )

    def _positions(self, listing: Listing, pictures: IntArray) -> IntArray:
        starts = listing.starts[pictures]
        return ranges(starts, starts + self._sizes[pictures])

    def _hidden(self, index: int, names: Sequence[str], listing: Listing) -> IntArray:
        """Listed pictures that the query does not look through; its own is one.

        The published code searches the query's own picture where the list names it, which two
        queries of CUHK-SYSU's gallery of 100 do.
        """
        hidden = self._listings.excluded(names)
        own = self.gallery.numbers.get(self.protocol.queries[index].scene)
        if own is not None and own not in hidden and not self.published:
            hidden = np.append(hidden, own)
        return hidden[listing.times[hidden] > 0]

    def _targets(self, index: int, hidden: IntArray, listing: Listing) -> Mapping[str, FloatArray]:
        """The query's target boxes by scene."""
        own, shown = self.protocol.queries[index].scene, self.protocol.targets[index]
        targets = {n: box for n, box in shown.items() if self.published or n != own}
        numbers, without = self.gallery.numbers, set(hidden.tolist())
        for name in targets:
            number = numbers.get(name, -1)
            if number < 0 or not listing.times[number] or number in without:
                raise EvaluationError(
                    f"protocol {self.protocol.name!r}, query {index} in scene {own!r}: target "
                    f"scene {name!r} is not in the query's gallery; leave it out of the targets"
                )
        return targets

    def _published_similarities(
        self, index: int, listing: Listing, values: FloatArray
    ) -> PublishedSimilarities | None:
        if not self.published:
            return None
        return PublishedSimilarities(
            self.gallery, self._weighted, self._largest_norm, listing, self.queries[index], values
        )

    def _match_context(
        self,
        index: int,
        listing: Listing,
        values: FloatArray,
        exact: PublishedSimilarities | None,
    ) -> None:
        """Replaces the similarity of the detection that the query is assigned to, in place."""
        assert self.context is not None
        nearest = _best(values, self.context.k1)
        if exact and len(nearest):
            # The last similarity may itself be off by the error, hence twice.
            exact.use_near(values[nearest[-1:]], errors=2)
            nearest = _best(values, self.context.k1)
        people = np.asarray(self.context.people[index][: self.context.k2], dtype=np.float32)
        pictures = np.unique(self._owners(listing.rows[nearest]))
        if exact:
            exact.use(pictures)
        for picture in pictures:
            rows = slice(self.gallery.starts[picture], self.gallery.starts[picture + 1])
            if self.published:
                products = (people[:, None] * self._weighted[None, rows]).sum(axis=2)
            else:
                products = people.astype(np.float64) @ self._weighted[rows].T.astype(np.float64)
            matched = match_context(products)
            if matched is not None:
                values[listing.starts[picture] + matched[0]] = matched[1]

    def _right_answers(
        self,
        index: int,
        listing: Listing,
        values: FloatArray,
        targets: Mapping[str, FloatArray],
        pictures: IntArray,
    ) -> IntArray:
        """Positions of the right answers; hides what the protocol ignores."""
        if self._ignore_rule is not None:
            right, ignored = self._ignore_rule.sort(index, targets)
            values[self._positions_of_rows(listing, ignored)] = -np.inf
            return self._positions_of_rows(listing, right)
        boxes = np.array(list(targets.values()), dtype=np.float32).reshape(-1, 4)
        if self.published:
            boxes = published_targets(boxes)
        positions = self._positions(listing, pictures)
        owners = np.repeat(np.arange(len(pictures)), self._sizes[pictures])
        found = self.gallery.boxes[listing.rows[positions]]
        return positions[first_matches(boxes, found, values[positions], owners)]

    def _positions_of_rows(self, listing: Listing, rows: IntArray) -> IntArray:
        """Where some rows stand in a list; rows of pictures that are not listed are left out."""
        owners = self._owners(rows)
        listed = listing.times[owners] > 0
        rows, owners = rows[listed], owners[listed]
        positions: IntArray = listing.starts[owners] + rows - self.gallery.starts[owners]
        return positions

    def _owners(self, rows: IntArray) -> IntArray:
        """The pictures that hold some rows."""
        return np.searchsorted(self.gallery.starts, rows, side="right") - 1

    def _ordered(self, values: FloatArray, right: IntArray) -> Keys:
        """Sorted keys down to the last right answer, and at least as many as are to be returned."""
        least = values[right].min(initial=np.inf)
        if self.ranked:
            least = min(least, values[_best(values, self.ranked)].min(initial=np.inf))
        positions = np.flatnonzero(values >= least)
        return np.sort(ranking_keys(values[positions], positions))

    def _hits(
        self, listing: Listing, values: FloatArray, right: IntArray, keys: Keys
    ) -> list[RankedHit]:
        if not len(keys):
            return []
        positions = key_positions(keys)
        rows = listing.rows[positions]
        correct = np.isin(positions, right)
        return [
            RankedHit(
                scene=self.gallery.names[owner],
                box=self.gallery.boxes[row],
                score=float(self.gallery.scores[row]),
                similarity=float(values[position]),
                correct=bool(is_right),
            )
            for owner, row, position, is_right in zip(
                self._owners(rows), rows, positions, correct, strict=True
            )
        ]


def _best(values: FloatArray, count: int) -> IntArray:
    """Positions of the `count` highest values in stable order, without what is hidden (-inf)."""
    visible = np.flatnonzero(values > -np.inf)
    if len(visible) > count:
        least = np.partition(values[visible], -count)[-count]
        visible = visible[values[visible] >= least]
    return key_positions(np.sort(ranking_keys(values[visible], visible))[:count])


def _squares(vectors: FloatArray) -> NDArray[np.float64]:
    """(N,) squared lengths."""
    squares: NDArray[np.float64] = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return squares


_BLOCK = 1 << 23
"""Similarities that are held at a time (32 MiB)."""
