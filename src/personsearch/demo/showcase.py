"""Chooses the few queries that represent all of them on a page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personsearch.errors import EvaluationError
from personsearch.evaluation.scoring import RankedHit
from personsearch.evaluation.search import SearchResult
from personsearch.types import IntArray, Query, SearchProtocol


@dataclass(frozen=True, eq=False)
class Example:
    """One query with its ranking."""

    number: int  # index among the protocol's queries
    query: Query
    rank: int  # among all queries by average precision; 1 is the best
    average_precision: float  # 0..1
    num_targets: int  # number of gallery pictures that show the person
    num_found: int  # number of those with a correct detection
    hits: Sequence[RankedHit]  # the first detections of the ranking, best first


def spread(average_precisions: Sequence[float] | np.ndarray, count: int) -> IntArray:
    """Choose queries at evenly spaced ranks from the best to the worst, both included.

    Args:
        average_precisions: (Q,), NaN for queries that are not evaluated; those are never chosen.
        count: how many, at least 2; all if there are fewer.

    Returns:
        (min(count, Q),) rows, best first. Ties keep their order.

    Raises:
        EvaluationError: `count` is below 2.
    """
    if count < 2:
        raise EvaluationError(f"count is {count}, expected 2 or more: the best and the worst")
    ranking = _by_precision(average_precisions)
    chosen = np.linspace(0, len(ranking) - 1, min(count, len(ranking))).round().astype(np.int64)
    return ranking[chosen]


def choose_examples(
    protocol: SearchProtocol, result: SearchResult, count: int = 8
) -> list[Example]:
    """Return queries at evenly spaced ranks from the best to the worst, see `spread`.

    They are not hand-picked, so they show what the mean is made of. The result is that of
    `evaluate_search` with ``ranked`` above zero.

    Raises:
        EvaluationError: the result has no rankings, or belongs to another protocol.
    """
    if len(result.hits) != len(protocol.queries):
        raise EvaluationError(
            f"protocol {protocol.name!r} has {len(protocol.queries)} queries, the result "
            f"{len(result.hits)} rankings; evaluate that protocol with ranked=N"
        )
    ranks = {row: rank for rank, row in enumerate(_by_precision(result.average_precisions), 1)}
    return [
        Example(
            number=row,
            query=protocol.queries[row],
            rank=ranks[row],
            average_precision=float(result.average_precisions[row]),
            num_targets=int(result.num_targets[row]),
            num_found=int(result.num_found[row]),
            hits=result.hits[row],
        )
        for row in spread(result.average_precisions, count).tolist()
    ]


def _by_precision(average_precisions: Sequence[float] | np.ndarray) -> IntArray:
    """Return rows by descending average precision, without NaN."""
    values = np.asarray(average_precisions, dtype=np.float64)
    order = np.argsort(-values, kind="stable").astype(np.int64)
    return order[~np.isnan(values[order])]
