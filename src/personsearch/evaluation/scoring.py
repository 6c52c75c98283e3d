"""Scores the queries of a protocol one by one, on similarities computed in blocks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import EvaluationError
from personsearch.evaluation.context_matching import ContextMatching, match_context
from personsearch.evaluation.gallery import Listing, Metric, PackedGallery, similarity_block
from personsearch.evaluation.ignoring import IgnoreRule
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
    """A detection in the ranking of a query; `correct` marks the right answer of its scene."""

    scene: str
    box: FloatArray
    score: float
    similarity: float
    correct: bool


class QueryScore(NamedTuple):
    """Metrics of one query; see `SearchResult`."""

    average_precision: float
    first_rank: int
    num_targets: int
    num_found: int
    ranks: IntArray
    hits: Sequence[RankedHit]


class Scoring:
    """One protocol on one gallery, for finite query embeddings (Q, D).

    Rows number the detections of the packed gallery. Positions number the detections in a query's
    list of pictures, in its order. The other arguments are those of `evaluate_search`, with
    `published` for the convention of SeqNet.
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
        metric: Metric,
    ) -> None:
        self.protocol, self.gallery, self.queries = protocol, gallery, queries
        self.metric = metric
        self.published, self.confidence_weighted = published, confidence_weighted
        self.context, self.ranked = context, ranked
        self._ignore_rule = IgnoreRule(protocol, gallery) if protocol.ignored else None
        self._last: tuple[Sequence[str], Listing] | None = None
        # Queries of one camera share a set of excluded names.
        self._excluded = lru_cache(maxsize=64)(gallery.known)
        weighted: FloatArray = gallery.embeddings
        if confidence_weighted and (published or context is not None):
            weighted = gallery.embeddings * gallery.scores[:, None]
        squares = np.einsum("nd,nd->n", weighted, weighted, dtype=np.float64)
        self._weighted, self._largest_norm = weighted, float(np.sqrt(squares.max(initial=0)))

    def scores(self) -> Iterator[QueryScore]:
        """Yield the metrics of each query, in the protocol's order.

        Raises:
            EvaluationError: a gallery scene without detections, or a target outside its gallery.
        """
        size = max(1, _BLOCK // max(len(self.gallery), 1))
        for start in range(0, len(self.queries), size):
            part = self.queries[start : start + size]
            block = similarity_block(part, self.gallery, self.confidence_weighted, self.metric)
            for offset, similarities in enumerate(block):
                yield self._score(start + offset, similarities)

    def _score(self, index: int, similarities: FloatArray) -> QueryScore:
        """Score one query, given its similarity to every row of the gallery."""
        names = self.protocol.galleries[index]
        listing = self._listing(names)
        values = similarities[listing.rows]
        hidden = self._hidden(index, names, listing)
        values[listing.positions(hidden)] = -np.inf
        targets = self._targets(index, hidden, listing)
        pictures = np.array([self.gallery.numbers[name] for name in targets], dtype=np.int64)
        num_targets = int(listing.times[pictures].sum()) if self.published else len(targets)

        exact = None
        if self.published:
            query = self.queries[index]
            exact = PublishedSimilarities(
                listing, self._weighted, self._largest_norm, query, values
            )
        if self.context is not None:
            self._match_context(self.context, index, listing, values, exact)
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
            ranks=ranks,
            hits=self._hits(listing, values, right, ordered[: self.ranked]),
        )

    def _listing(self, names: Sequence[str]) -> Listing:
        """List the pictures behind a gallery, with those that a lazy one excludes."""
        base: Sequence[str] = getattr(names, "names", names)
        # Lists that queries share are read once.
        if self._last is None or self._last[0] is not base:
            self._last = (base, self.gallery.listing(base))
        return self._last[1]

    def _hidden(self, index: int, names: Sequence[str], listing: Listing) -> IntArray:
        """Return the listed pictures that the query does not search, its own among them.

        The published code searches the query's own picture where the list names it, which two
        queries of CUHK-SYSU's gallery of 100 do.
        """
        hidden = self._excluded(frozenset(getattr(names, "excluded", ())))
        own = self.gallery.numbers.get(self.protocol.queries[index].scene)
        if own is not None and own not in hidden and not self.published:
            hidden = np.append(hidden, own)
        return hidden[listing.times[hidden] > 0]

    def _targets(self, index: int, hidden: IntArray, listing: Listing) -> Mapping[str, FloatArray]:
        """Return the query's target boxes by scene."""
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

    def _match_context(
        self,
        context: ContextMatching,
        index: int,
        listing: Listing,
        values: FloatArray,
        exact: PublishedSimilarities | None,
    ) -> None:
        """Replace the similarities of the detections that the query is assigned to, in place."""
        nearest = _best(values, context.k1)
        if exact and len(nearest):
            # The last similarity may itself be off by the error, hence twice.
            exact.use_near(values[nearest[-1:]], errors=2)
            nearest = _best(values, context.k1)
        people = np.asarray(context.people[index][: context.k2], dtype=np.float32)
        pictures = np.unique(self.gallery.pictures_of(listing.rows[nearest]))
        if exact:
            exact.use(pictures)
        for picture in pictures:
            others = self._weighted[self.gallery.starts[picture] : self.gallery.starts[picture + 1]]
            if self.published:
                products = (people[:, None] * others[None]).sum(axis=2)
            else:
                products = people.astype(np.float64) @ others.T.astype(np.float64)
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
        """Return the positions of the right answers; hide what the protocol ignores."""
        if self._ignore_rule is not None:
            right, ignored = self._ignore_rule.sort(index, targets)
            values[listing.positions_of(ignored)] = -np.inf
            if right is not None:
                return listing.positions_of(right)
        boxes = np.array(list(targets.values()), dtype=np.float32).reshape(-1, 4)
        if self.published:
            boxes = published_targets(boxes)
        positions = listing.positions(pictures)
        owners = np.repeat(np.arange(len(pictures)), self.gallery.sizes[pictures])
        if self._ignore_rule is not None:
            searched = values[positions] > -np.inf
            positions, owners = positions[searched], owners[searched]
        found = self.gallery.boxes[listing.rows[positions]]
        return positions[first_matches(boxes, found, values[positions], owners)]

    def _ordered(self, values: FloatArray, right: IntArray) -> Keys:
        """Return sorted keys down to the last right answer, and `ranked` of them at least."""
        least = values[right].min(initial=np.inf)
        if self.ranked:
            least = min(least, values[_best(values, self.ranked)].min(initial=np.inf))
        positions = np.flatnonzero(values >= least)
        return np.sort(ranking_keys(values[positions], positions))

    def _hits(
        self, listing: Listing, values: FloatArray, right: IntArray, keys: Keys
    ) -> list[RankedHit]:
        gallery, positions = self.gallery, key_positions(keys)
        rows = listing.rows[positions]
        return [
            RankedHit(
                scene=gallery.names[picture],
                box=gallery.boxes[row],
                score=float(gallery.scores[row]),
                similarity=float(values[position]),
                correct=position in right,
            )
            for picture, row, position in zip(
                gallery.pictures_of(rows), rows, positions, strict=True
            )
        ]


def iou_thresholds(targets: FloatArray) -> NDArray[np.float64]:
    """(T,) ``min(0.5, w h / ((w + 10)(h + 10)))``: small people need less overlap."""
    sides = targets[:, 2:].astype(np.float64) - targets[:, :2]
    width, height = sides[:, 0], sides[:, 1]
    return np.minimum(0.5, width * height / ((width + 10) * (height + 10)))


def paired_iou(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """(N,) IoU of each box of `a` with the same row of `b` (N, 4), in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    shared = sides[:, 0] * sides[:, 1]
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    ious: NDArray[np.float64] = shared / (area_a + area_b - shared)
    return ious


def first_matches(
    targets: FloatArray, boxes: FloatArray, similarities: FloatArray, owners: IntArray
) -> IntArray:
    """Return the indices of the right answers, at most one for each target (T, 4).

    The right answer is the most similar of the boxes (N, 4) in the target's picture that overlap
    the target enough, and the first of equally similar ones. `owners` (N,) are the targets in whose
    pictures the boxes are.
    """
    reaching = np.flatnonzero(paired_iou(boxes, targets[owners]) >= iou_thresholds(targets)[owners])
    # Indices ascend, and lexsort is stable: the first of each picture wins a tie.
    order = reaching[np.lexsort((-similarities[reaching], owners[reaching]))]
    first = np.unique(owners[order], return_index=True)[1]
    matches: IntArray = order[first]
    return matches


def _best(values: FloatArray, count: int) -> IntArray:
    """Return the positions of the `count` highest values in stable order, without hidden ones."""
    visible = np.flatnonzero(values > -np.inf)
    if len(visible) > count:
        least = np.partition(values[visible], -count)[-count]
        visible = visible[values[visible] >= least]
    return key_positions(np.sort(ranking_keys(values[visible], visible))[:count])


_BLOCK = 1 << 23
"""Similarities to hold at a time (32 MiB)."""
