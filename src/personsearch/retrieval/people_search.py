"""Searches people by one or several examples: engines rank views, a searcher sees people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personsearch.errors import StoreError
from personsearch.retrieval.engine import Engine
from personsearch.retrieval.store import EVERYONE, Filters, StoredPerson
from personsearch.retrieval.tracks import VIEWS
from personsearch.types import FloatArray


@dataclass(frozen=True, eq=False)
class Match:
    """Someone in the store who is like the query.

    Attributes:
        person: who.
        similarity: cosine to the query, -1..1.
        rank_score: what matches are ranked by: `similarity`, or its product with the detection's
            score where the model asks for that.
    """

    person: StoredPerson
    similarity: float
    rank_score: float


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
) -> list[Match]:
    """Those who are most like a query (D,), best first.

    Args:
        engine: that keeps them.
        query: unit length.
        filters: who is meant.
        top: how many.
        without: ids of people who are not wanted, such as the examples themselves.
        grouped: of a track in a video, only the view that is most alike.

    Raises:
        StoreError: a query of another length than the embeddings.
    """
    # A track has a few views, so that many rows hold enough tracks.
    rows = top * VIEWS if grouped else top
    query = np.asarray(query, np.float32)
    if query.ndim != 1:
        raise StoreError(f"a query of shape {query.shape} came, expected ({engine.model.dim},)")
    ranking = engine.search(query[None], top=rows, filters=filters, without=without)[0]
    matches: list[Match] = []
    tracks: set[int] = set()
    for row, person in enumerate(engine.get(ranking.ids.tolist())):
        if grouped and person.track is not None:
            if person.track.id in tracks:
                continue
            tracks.add(person.track.id)
        similarity, rank_score = ranking.similarities[row], ranking.rank_scores[row]
        matches.append(Match(person, float(similarity), float(rank_score)))
    return matches[:top]
