"""Ranks of right answers, and average precision.

A ranking is sorted stably by descending similarity. Similarity and position are packed into one
64-bit key, the similarity in the upper half, so that a plain sort is stable and a search in it is
exact.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from personsearch.types import FloatArray, IntArray

Keys = NDArray[np.uint64]

_LOWER = np.uint64(0xFFFFFFFF)
_SIGN = np.uint32(0x80000000)
_HALF = np.uint64(32)


def ranking_keys(similarities: FloatArray, positions: IntArray) -> Keys:
    """Return keys that ascend as similarity descends, and with the position among equal ones.

    Args:
        similarities: (N,) float32, no NaN.
        positions: (N,) in 0..2^32 - 1.
    """
    # Adding zero turns -0 into 0: they are equal, their bits are not.
    bits = (np.asarray(similarities, dtype=np.float32) + np.float32(0)).view(np.uint32)
    # The bits of negative floats order them backwards, and those of positive ones forwards.
    descending = np.where(bits & _SIGN, bits, ~(bits | _SIGN))
    keys: Keys = (descending.astype(np.uint64) << _HALF) | positions.astype(np.uint64)
    return keys


def key_positions(keys: Keys) -> IntArray:
    """Return the positions packed into keys."""
    return (keys & _LOWER).astype(np.int64)


def stable_ranks(ordered: Keys, keys: Keys) -> IntArray:
    """Return the ranks (T,) from 1 of some keys among all keys (ascending)."""
    return np.searchsorted(ordered, keys).astype(np.int64) + 1


def tied_ranks(ordered: Keys, keys: Keys) -> IntArray:
    """Return how many of all keys (ascending) have at least the similarity of each key (T,)."""
    return np.searchsorted(ordered, keys | _LOWER, side="right").astype(np.int64)


def average_precision(
    ranks: IntArray, num_targets: int, kind: str = "step", found: IntArray | None = None
) -> float:
    """Compute average precision times recall from the ranks of the right answers.

    Args:
        ranks: (T,) from 1, ascending.
        num_targets: number of right answers, found or not, > 0.
        kind: ``"step"`` sums precision over the right answers; ``"trapezoid"`` takes the mean of
            the precision at each right answer and just before it, which is 1 before the first rank.
        found: (T,) number of right answers up to each rank; by default 1, 2, ..., T.
    """
    ordinal = np.arange(1, len(ranks) + 1) if found is None else found
    precision = ordinal / ranks
    if kind == "trapezoid":
        before = np.ones(len(ranks))
        np.divide(ordinal - 1, ranks - 1, out=before, where=ranks > 1)
        precision = (precision + before) / 2
    return float(precision.sum() / num_targets)


def interpolated_precision(
    ranks: IntArray, num_targets: int, recalls: Sequence[float]
) -> NDArray[np.float64]:
    """Return the highest precision with at least each recall (R,), 0 where it is not reached.

    Args:
        ranks: (T,) of the right answers, from 1, ascending.
        num_targets: number of right answers, found or not, > 0.
        recalls: (R,) in 0..1.
    """
    ordinal = np.arange(1, len(ranks) + 1)
    # From a recall on, the highest precision; beyond the last right answer it is 0.
    highest = np.append(np.maximum.accumulate((ordinal / ranks)[::-1])[::-1], 0.0)
    # Right answers that a recall asks for; rounding may not ask for one more.
    needed = np.ceil(np.asarray(recalls) * num_targets - 1e-9).astype(np.int64)
    precisions: NDArray[np.float64] = highest[np.clip(needed - 1, 0, len(ranks))]
    return precisions
