"""Searches people by one or several examples: engines rank views, a searcher sees people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personsearch.engines.engine import Engine, Ranking
from personsearch.errors import StoreError
from personsearch.search.reranking import (
    CANDIDATES,
    NEIGHBOURS,
    Rerank,
    expand,
    k_reciprocal,
)
from personsearch.store import EVERYONE, Filters, StoredPerson
from personsearch.store.tracks import VIEWS
from personsearch.types import FloatArray


@dataclass(frozen=True, eq=False)
class Match:
    """Someone in the store who is like the query.

    Attributes:
        person: who.
        similarity: cosine to the query, -1..1.
        rank_score: what matches are ranked by: `similarity`, or its product with the detection's
            score where the model asks for that, or what ranking again makes of it.
        probability: the chance that this is the same person, 0..1; None where the store has no
            calibration, or it does not hold for the query.
    """

    person: StoredPerson
    similarity: float
    rank_score: float
    probability: float | None = None


def combine(examples: FloatArray, negatives: FloatArray | None = None) -> FloatArray:
    """One query (D,) of several examples (N, D) of a person, away from others (M, D).

    The mean of the examples, less half the part of each negative's mean that points the same way.

    Raises:
        StoreError: no example, or examples that cancel out.
    """
    if not len(examples):
        raise StoreError("no example of the person came, expected at least one")
    query = np.asarray(examples, np.float32).mean(axis=0)
    if negatives is not None and len(negatives):
        query = query - 0.5 * np.asarray(negatives, np.float32).mean(axis=0)
    length = float(np.linalg.norm(query))
    if not np.isfinite(length) or length < 1e-6:
        raise StoreError("the examples point in opposite directions; leave some of them out")
    unit: FloatArray = (query / length).astype(np.float32)
    return unit


def search_people(
    engine: Engine,
    query: FloatArray,
    *,
    filters: Filters = EVERYONE,
    top: int = 20,
    without: Sequence[int] = (),
    grouped: bool = True,
    one_a_file: bool = False,
    rerank: Rerank | None = None,
) -> list[Match]:
    """Those who are most like a query (D,), best first.

    Args:
        engine: that keeps them.
        query: unit length.
        filters: who is meant.
        top: how many.
        without: ids of people who are not wanted, such as the examples themselves.
        grouped: of a track in a video, only the view that is best.
        one_a_file: of a photo or video, only the person who is best.
        rerank: rank the best few hundred again; similarities stay those to `query`.

    Raises:
        StoreError: a query of another length than the embeddings.
    """
    query = np.asarray(query, np.float32)
    if query.ndim != 1:
        raise StoreError(f"a query of shape {query.shape} came, expected ({engine.model.dim},)")
    asked = query
    if rerank == "expansion":
        asked = _expanded(engine, query, filters, without)
    # A track has a few views, so that many rows hold enough tracks; of a file nobody knows.
    rows = max(top * VIEWS if grouped else top, CANDIDATES if rerank == "k-reciprocal" else 0)
    while True:
        found = engine.search(asked[None], top=rows, filters=filters, without=without)[0]
        people = engine.get(found.ids.tolist())
        ranking = _again(engine, query, found, people, rerank)
        kept = _best_of_each(people, ranking, grouped, one_a_file)[:top]
        if len(kept) == top or len(found.ids) < rows:
            break
        rows *= 4
    matches = []
    for row in kept:
        similarity, rank_score = float(ranking.similarities[row]), float(ranking.rank_scores[row])
        matches.append(Match(people[row], similarity, rank_score))
    return matches


def _expanded(
    engine: Engine, query: FloatArray, filters: Filters, without: Sequence[int]
) -> FloatArray:
    """The query with its nearest, one view of a track."""
    near = engine.search(query[None], top=NEIGHBOURS * VIEWS, filters=filters, without=without)[0]
    kept = _best_of_each(engine.get(near.ids.tolist()), near, True, False)[:NEIGHBOURS]
    vectors = engine.vectors(near.ids[kept].tolist()).astype(np.float32)
    return expand(query, vectors, near.similarities[kept])


def _again(
    engine: Engine,
    query: FloatArray,
    found: Ranking,
    people: Sequence[StoredPerson],
    rerank: Rerank | None,
) -> Ranking:
    """The ranking in the order of the people, with similarities to the query itself."""
    if rerank is None or not len(found.ids):
        return found
    vectors = engine.vectors(found.ids.tolist()).astype(np.float32)
    similarities = (vectors @ query).round(6)
    if rerank == "expansion":
        return Ranking(found.ids, similarities, found.rank_scores)
    scores = found.rank_scores - 2.0  # whoever comes after the candidates stays behind them
    first = slice(0, CANDIDATES)
    scores[first] = 1.0 - k_reciprocal(query, vectors[first])
    if engine.model.weighted:
        scores[first] *= np.array([person.score for person in people[first]], np.float32)
    return Ranking(found.ids, similarities, scores)


def _best_of_each(
    people: Sequence[StoredPerson], ranking: Ranking, grouped: bool, one_a_file: bool
) -> list[int]:
    """Rows, best first, the first one of each track or file."""
    seen: set[object] = set()
    kept = []
    for row in np.argsort(-ranking.rank_scores, kind="stable").tolist():
        person = people[row]
        group: object = None
        if one_a_file:
            group = person.place
        elif grouped and person.track is not None:
            group = person.track.id
        if group is None or group not in seen:
            seen.add(group)
            kept.append(row)
    return kept
