"""Ranks the most alike again by what they are like themselves: k-reciprocal, query expansion.

Both look at the few hundred who are most like a query; nobody else can come in by the first, anyone
by the second, which searches again.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.types import FloatArray

Rerank = Literal["k-reciprocal", "expansion"]
"""How a search ranks again."""

CANDIDATES = 300
"""People who are ranked again."""
NEIGHBOURS = 5
"""People who expand a query."""


def k_reciprocal(
    query: FloatArray, gallery: FloatArray, *, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> FloatArray:
    """Distances (N,) of a query (D,) to a gallery (N, D), smaller is more alike.

    Zhong, Zheng, Cao and Li, "Re-ranking Person Re-identification with k-reciprocal Encoding",
    CVPR 2017: those who are among each other's k1 nearest (eq. 2, 3) are joined to sets, which are
    widened by the sets of their members (eq. 5), written as vectors of Gaussian weights (eq. 7),
    averaged over the k2 nearest (eq. 11), and compared by the Jaccard distance (eq. 10), mixed with
    the plain distance (eq. 12).

    Args:
        query, gallery: of unit length. Distances are squared Euclidean ones, over the largest of a
            row.
        k1, k2: as above; the query counts as one of its own nearest.
        weight: lambda, of the plain distance.

    Raises:
        StoreError: k1 or k2 below 1, or a weight outside 0..1.
    """
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise StoreError(
            f"k1 {k1}, k2 {k2}, weight {weight} came; expected k1 and k2 of at least 1, weight 0..1"
        )
    everyone = np.concatenate([query[None], gallery]).astype(np.float64)
    count = len(everyone)
    plain = np.maximum(2.0 - 2.0 * everyone @ everyone.T, 0.0)
    plain /= np.maximum(plain.max(axis=1, keepdims=True), 1e-12)
    np.fill_diagonal(plain, 0.0)
    # Oneself first, whatever equal the others are.
    order = np.argsort(plain - np.eye(count), axis=1, kind="stable")
    close = _mutual(order, k1)
    half = _mutual(order, max(round(k1 / 2), 1))
    sizes = half.sum(axis=1)
    # A member's own set joins where two thirds of it are there already.
    shared = close.astype(np.float64) @ half.T
    joins = close & (shared >= 2.0 / 3.0 * sizes[None, :])
    wide = close | ((joins.astype(np.float64) @ half) > 0)
    encoded = np.where(wide, np.exp(-plain), 0.0)
    encoded /= encoded.sum(axis=1, keepdims=True)
    if k2 > 1:
        encoded = np.stack([encoded[order[row, :k2]].mean(axis=0) for row in range(count)])
    smaller = np.minimum(encoded[0], encoded[1:]).sum(axis=1)
    jaccard = 1.0 - smaller / (2.0 - smaller)
    mixed: FloatArray = ((1.0 - weight) * jaccard + weight * plain[0, 1:]).astype(np.float32)
    return mixed


def _mutual(order: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """(N, N) whether two are among each other's k nearest, beside themselves."""
    near = np.zeros(order.shape, bool)
    np.put_along_axis(near, order[:, : k + 1], True, axis=1)
    return near & near.T


def expand(
    query: FloatArray,
    neighbours: FloatArray,
    similarities: FloatArray,
    *,
    alpha: float = 3.0,
) -> FloatArray:
    """A query (D,) that its nearest (K, D) have been added to, of unit length.

    Chum et al., "Total Recall", ICCV 2007, for alpha = 0: the mean. Radenović, Tolias and Chum,
    "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019, section 3.2, else:
    weights of similarity ** alpha, so that who is hardly alike hardly counts.
    """
    weights = np.maximum(similarities.astype(np.float64), 0.0) ** alpha
    added = query.astype(np.float64) + weights @ neighbours.astype(np.float64)
    unit: FloatArray = (added / max(float(np.linalg.norm(added)), 1e-12)).astype(np.float32)
    return unit
