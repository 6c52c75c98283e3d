"""Searches a store: exact similarity of everyone who is meant to one or several examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.retrieval.store import EVERYONE, Filters, Store, StoredPerson
from personsearch.retrieval.tracks import VIEWS
from personsearch.types import FloatArray

_BLOCK = 65_536


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


def search_store(
    store: Store,
    query: FloatArray,
    *,
    filters: Filters = EVERYONE,
    top: int = 20,
    without: Sequence[int] = (),
    grouped: bool = True,
) -> list[Match]:
    """Those who are most like a query (D,), best first.

    Args:
        store: open.
        query: unit length.
        filters: who is meant.
        top: how many.
        without: ids of people who are not wanted, such as the examples themselves.
        grouped: of a track in a video, only the view that is most alike.

    Raises:
        StoreError: a query of another length than the store's embeddings.
    """
    query = np.asarray(query, np.float32)
    if query.shape != (store.model.dim,):
        raise StoreError(
            f"{store.folder}: a query of shape {query.shape} came, expected ({store.model.dim},)"
        )
    ids, vectors = store.embeddings(filters)
    similarity = similarities(vectors, query)
    if len(without):
        left = ~np.isin(ids, np.asarray(without, np.int64))
        ids, similarity = ids[left], similarity[left]
    weights = None
    if store.model.weighted:
        weights = np.array([person.score for person in store.people(ids.tolist())], np.float32)
    ranked = similarity if weights is None else similarity * weights
    # A track has a few views, so that many rows hold enough tracks.
    order = _best(ranked, top * VIEWS if grouped else top)
    matches: list[Match] = []
    tracks: set[int] = set()
    for person, row in zip(store.people(ids[order].tolist()), order, strict=True):
        if grouped and person.track is not None:
            if person.track.id in tracks:
                continue
            tracks.add(person.track.id)
        matches.append(Match(person, float(similarity[row]), float(ranked[row])))
    return matches[:top]


def similarities(vectors: NDArray[np.float16], query: FloatArray) -> FloatArray:
    """Cosines (N,) float32 of rows (N, D) in half precision to a query (D,), to six digits."""
    found: FloatArray = np.empty(len(vectors), np.float32)
    for begin in range(0, len(vectors), _BLOCK):
        block = vectors[begin : begin + _BLOCK].astype(np.float32)
        found[begin : begin + _BLOCK] = block @ query
    # Equal people are equally like the query, whatever order a product was summed in.
    rounded: FloatArray = found.round(6)
    return rounded


def _best(scores: FloatArray, top: int) -> NDArray[np.int64]:
    """Rows of the largest scores, descending; the earlier row first where they are equal."""
    count = min(top, len(scores))
    if not count:
        return np.zeros(0, np.int64)
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    rows = np.flatnonzero(scores >= least)
    order: NDArray[np.int64] = rows[np.argsort(-scores[rows], kind="stable")][:count]
    return order
