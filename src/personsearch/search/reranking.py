"""Rank the best matches again by their neighbours: k-reciprocal encoding, query expansion.

The first reorders the best few hundred matches; the second searches again with another query.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import StoreError
from personsearch.types import FloatArray

Rerank = Literal["k-reciprocal", "expansion"]
"""Ways of ranking again."""

CANDIDATES = 300
"""The most people who are ranked again."""
NEIGHBOURS = 5
"""Number of people who expand a query."""


def k_reciprocal(
    query: FloatArray, gallery: FloatArray, *, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> FloatArray:
    """Return distances (N,) of a query (D,) to a gallery (N, D); smaller is more similar.

    Zhong, Zheng, Cao and Li, "Re-ranking Person Re-identification with k-reciprocal Encoding",
    CVPR 2017. The k1-reciprocal neighbours of each person (eq. 2, 3) form a set, which is expanded
    by the sets of its members (eq. 5), encoded as a vector of Gaussian weights (eq. 7), averaged
    over the k2 nearest (eq. 11), and compared by the Jaccard distance (eq. 10), mixed with the
    original distance (eq. 12).

    Embeddings have unit length. Original distances are squared Euclidean, divided by the largest of
    a row; `weight` is their lambda. The query counts as one of its own nearest.

    Raises:
        StoreError: k1 or k2 below 1, or a weight outside 0..1.
    """
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise StoreError(
            f"k1 is {k1}, k2 {k2}, weight {weight}; expected k1 and k2 of at least 1, weight 0..1"
        )
    everyone = np.concatenate([query[None], gallery]).astype(np.float64)
    count = len(everyone)
    plain = np.maximum(2.0 - 2.0 * everyone @ everyone.T, 0.0)
    plain /= np.maximum(plain.max(axis=1, keepdims=True), 1e-12)
    np.fill_diagonal(plain, 0.0)
    # Oneself first, even where others are equal.
    order = np.argsort(plain - np.eye(count), axis=1, kind="stable")
    close = _mutual(order, k1)
    half = _mutual(order, max(round(k1 / 2), 1))
    sizes = half.sum(axis=1)
    # Eq. 5: a member's own set is added where two thirds of it are in the set already.
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
    """(N, N) whether two are among each other's k nearest, themselves not counted."""
    near = np.zeros(order.shape, bool)
    np.put_along_axis(near, order[:, : k + 1], True, axis=1)
    return near & near.T


def expand(
    query: FloatArray, neighbours: FloatArray, similarities: FloatArray, *, alpha: float = 3.0
) -> FloatArray:
    """Add the nearest neighbours (K, D) to a query (D,); the result has unit length.

    Chum et al., "Total Recall", ICCV 2007, for alpha = 0: the mean. Radenović, Tolias and Chum,
    "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019, section 3.2, else:
    weights of similarity ** alpha, so that distant neighbours count little.
    """
    weights = np.maximum(similarities.astype(np.float64), 0.0) ** alpha
    added = query.astype(np.float64) + weights @ neighbours.astype(np.float64)
    unit: FloatArray = (added / max(float(np.linalg.norm(added)), 1e-12)).astype(np.float32)
    return unit
