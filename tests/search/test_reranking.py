"""Re-ranking against the papers' steps in plain sets and loops."""

import math

import numpy as np
import pytest

from personsearch.errors import StoreError
from personsearch.search.reranking import expand, k_reciprocal


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def slow(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, weight: float) -> list[float]:
    """Zhong et al. 2017, one person at a time."""
    rows = [query, *gallery]
    count = len(rows)
    far = [[float(((a - b) ** 2).sum()) for b in rows] for a in rows]
    far = [[value / max(row) for value in row] for row in far]

    def nearest(i: int, k: int) -> list[int]:
        others = sorted((j for j in range(count) if j != i), key=lambda j: far[i][j])
        return [i, *others[:k]]

    def mutual(i: int, k: int) -> set[int]:
        return {j for j in nearest(i, k) if i in nearest(j, k)}

    vectors = []
    for i in range(count):
        wide = set(mutual(i, k1))
        for j in mutual(i, k1):
            own = mutual(j, round(k1 / 2))
            if len(mutual(i, k1) & own) >= 2 / 3 * len(own):
                wide |= own
        weights = [math.exp(-far[i][j]) if j in wide else 0.0 for j in range(count)]
        vectors.append([value / sum(weights) for value in weights])
    means = []
    for i in range(count):
        near = nearest(i, k2 - 1)
        means.append([sum(vectors[j][c] for j in near) / len(near) for c in range(count)])
    found = []
    for i in range(1, count):
        low = sum(min(a, b) for a, b in zip(means[0], means[i], strict=True))
        high = sum(max(a, b) for a, b in zip(means[0], means[i], strict=True))
        found.append((1 - weight) * (1 - low / high) + weight * far[0][i])
    return found


@pytest.mark.parametrize(("k1", "k2", "weight"), [(5, 2, 0.3), (8, 1, 0.0), (20, 6, 0.5)])
def test_k_reciprocal_equals_the_plain_version(k1: int, k2: int, weight: float) -> None:
    rng = np.random.default_rng(k1)
    centres = rng.normal(size=(6, 8))
    rows = unit(np.repeat(centres, 6, axis=0) + 0.6 * rng.normal(size=(36, 8))).astype(np.float64)
    fast = k_reciprocal(rows[0], rows[1:], k1=k1, k2=k2, weight=weight)
    np.testing.assert_allclose(fast, slow(rows[0], rows[1:], k1, k2, weight), atol=1e-6)


def test_k_reciprocal_brings_back_a_friend_of_friends() -> None:
    """Far from the query, but near those who are near it; a stranger is nearer, but alone."""
    angles = np.radians([0, 8, 14, 20, 26, 32, -30, 120, 140, 160, 180, 200])
    rows = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    plain = rows[1:] @ rows[0]
    found = k_reciprocal(rows[0], rows[1:], k1=4, k2=2)
    friend, stranger = 4, 5  # at 32 and at -30 degrees
    assert plain[stranger] > plain[friend]
    assert found[friend] < found[stranger]


def test_few_people_and_wrong_settings() -> None:
    rows = unit(np.eye(3))
    assert k_reciprocal(rows[0], rows[1:1]).shape == (0,)
    # Twins: nobody comes before oneself.
    np.testing.assert_allclose(k_reciprocal(rows[0], rows[[0, 1]])[0], 0.0, atol=0.5)
    for wrong in ({"k1": 0}, {"k2": 0}, {"weight": 1.5}):
        with pytest.raises(StoreError, match="expected k1 and k2"):
            k_reciprocal(rows[0], rows[1:], **wrong)


def test_expansion_is_the_mean_or_a_weighted_one() -> None:
    rng = np.random.default_rng(0)
    query, near = unit(rng.normal(size=4)), unit(rng.normal(size=(3, 4)))
    alike = np.array([0.9, 0.5, -0.2], np.float32)
    np.testing.assert_allclose(
        expand(query, near, alike, alpha=0), unit(query + near.sum(axis=0)), atol=1e-6
    )
    by_hand = query + 0.9**3 * near[0] + 0.5**3 * near[1]
    np.testing.assert_allclose(expand(query, near, alike), unit(by_hand), atol=1e-6)
    np.testing.assert_allclose(expand(query, near[:0], alike[:0]), query, atol=1e-6)
