"""Search by one or several examples: engines rank views, this module groups them to people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.engines.engine import Engine, Ranking
from personsearch.errors import DataError, GoneError, StoreError
from personsearch.search.reranking import CANDIDATES, NEIGHBOURS, Rerank, expand, k_reciprocal
from personsearch.store import EVERYONE, Filters, StoredPerson
from personsearch.store.tracks import VIEWS
from personsearch.types import FloatArray


@dataclass(frozen=True, eq=False)
class Match:
    """A person in the store who is similar to the query.

    Matches are ranked by `rank_score`: the similarity, its product with the detection's score where
    the model asks for that, or the score of ranking again.
    """

    person: StoredPerson
    similarity: float  # cosine to the query, -1..1
    rank_score: float
    probability: float | None = None  # of being the same person, 0..1; None if not calibrated

    def as_json(self) -> dict[str, Any]:
        """Plain values; the box in pixels."""
        person = self.person
        return {
            "person": person.id,
            "path": person.uri,
            "frame": person.frame,
            "position": person.position,
            "time": person.time,
            "track": None if person.track is None else vars(person.track),
            "camera": person.camera,
            "box": [round(float(side), 2) for side in person.box],
            "similarity": self.similarity,
            "probability": self.probability,
            "chance": self.probability,  # deprecated: the name of version 0.1
            "score": person.score,
            "rank_score": self.rank_score,
        }


def combine(examples: FloatArray, negatives: FloatArray | None = None) -> FloatArray:
    """Return one query (D,) from examples (N, D) of a person and of others (M, D).

    It is the mean of the examples minus half the mean of the others, of unit length.

    Raises:
        StoreError: no example.
        DataError: the examples cancel out.
    """
    if not len(examples):
        raise StoreError("no example of the person; expected at least one")
    query = np.asarray(examples, np.float32).mean(axis=0)
    if negatives is not None and len(negatives):
        query = query - 0.5 * np.asarray(negatives, np.float32).mean(axis=0)
    length = float(np.linalg.norm(query))
    if not np.isfinite(length) or length < 1e-6:
        raise DataError("the examples point in opposite directions; leave some of them out")
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
    """Return the people who are most similar to a query (D,) of unit length, best first.

    People named in `without` are left out, and so is everyone who is erased meanwhile. Options are
    those of `SearchRequest`; similarities stay those to `query`, however `rerank` orders the
    matches.

    Raises:
        StoreError: a query of another length than the embeddings.
    """
    query = np.asarray(query, np.float32)
    if query.ndim != 1:
        raise StoreError(f"the query has the shape {query.shape}, expected ({engine.model.dim},)")
    expanded = _expand(engine, query, filters, without) if rerank == "expansion" else query
    # A track has at most `VIEWS` views; a file may have any number of people.
    rows = max(top * VIEWS if grouped else top, CANDIDATES if rerank == "k-reciprocal" else 0)
    while True:
        found = engine.search(expanded[None], top=rows, filters=filters, without=without)[0]
        there, people, vectors = _read(engine, found, vectors=rerank is not None)
        ranking = _rank_again(engine, query, there, people, vectors, rerank)
        kept = _best_of_each(people, ranking, grouped, one_a_file)[:top]
        if len(kept) == top or len(found.ids) < rows:
            break
        rows *= 4
    similarities, scores = ranking.similarities.tolist(), ranking.rank_scores.tolist()
    return [Match(people[row], similarities[row], scores[row]) for row in kept]


def _expand(
    engine: Engine, query: FloatArray, filters: Filters, without: Sequence[int]
) -> FloatArray:
    """The query with its nearest neighbours added, one view of a track."""
    near = engine.search(query[None], top=NEIGHBOURS * VIEWS, filters=filters, without=without)[0]
    near, people, vectors = _read(engine, near, vectors=True)
    kept = _best_of_each(people, near, True, False)[:NEIGHBOURS]
    return expand(query, vectors[kept], near.similarities[kept])


def _read(
    engine: Engine, found: Ranking, *, vectors: bool
) -> tuple[Ranking, list[StoredPerson], FloatArray]:
    """The people of a ranking with their embeddings (N, D); D is 0 if those are not wanted.

    Whoever was erased since is left out, of the ranking, too.
    """
    while True:
        people = engine.find(found.ids.tolist())
        there = np.array([one in people for one in found.ids.tolist()], bool)
        found = Ranking(found.ids[there], found.similarities[there], found.rank_scores[there])
        ids = found.ids.tolist()
        try:
            read = engine.vectors(ids) if vectors else np.zeros((len(ids), 0))
            return found, [people[one] for one in ids], read.astype(np.float32)
        except GoneError:
            continue  # erased just now, and not found again


def _rank_again(
    engine: Engine,
    query: FloatArray,
    found: Ranking,
    people: Sequence[StoredPerson],
    vectors: FloatArray,
    rerank: Rerank | None,
) -> Ranking:
    """The ranking with similarities to the query itself, and the scores of ranking again."""
    if rerank is None or not len(found.ids):
        return found
    similarities = (vectors @ query).round(6)
    if rerank == "expansion":
        return Ranking(found.ids, similarities, found.rank_scores)
    scores = found.rank_scores - 2.0  # those after the candidates stay behind them
    first = slice(0, CANDIDATES)
    scores[first] = 1.0 - k_reciprocal(query, vectors[first])
    if engine.model.weighted:
        scores[first] *= np.array([person.score for person in people[first]], np.float32)
    return Ranking(found.ids, similarities, scores)


def _best_of_each(
    people: Sequence[StoredPerson], ranking: Ranking, grouped: bool, one_a_file: bool
) -> list[int]:
    """Rows, best first; only the best of each track or file."""
    seen: set[object] = set()
    kept = []
    for row in np.argsort(-ranking.rank_scores, kind="stable").tolist():
        person = people[row]
        track = person.track.id if grouped and person.track is not None else None
        group: object = person.uri if one_a_file else track
        if group is None or group not in seen:
            seen.add(group)
            kept.append(row)
    return kept
