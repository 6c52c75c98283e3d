"""Packed keys order as a stable sort does; average precision from ranks alone."""

import numpy as np
import pytest

from personsearch.evaluation.ranking import (
    average_precision,
    interpolated_precision,
    key_positions,
    ranking_keys,
    stable_ranks,
    tied_ranks,
)


def test_keys_sort_as_a_stable_descending_sort() -> None:
    rng = np.random.default_rng(0)
    special = np.array([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, 3.4e38, -3.4e38], np.float32)
    for _ in range(50):
        values = rng.choice(np.append(special, rng.standard_normal(5)), 60).astype(np.float32)
        keys = np.sort(ranking_keys(values, np.arange(60)))
        np.testing.assert_array_equal(key_positions(keys), np.argsort(-values, kind="stable"))


def test_ranks() -> None:
    values = np.array([0.5, 0.9, 0.5, 0.1, 0.5], np.float32)
    keys = ranking_keys(values, np.arange(5))
    ordered = np.sort(keys)
    assert stable_ranks(ordered, keys).tolist() == [2, 1, 3, 5, 4]
    assert tied_ranks(ordered, keys).tolist() == [4, 1, 4, 5, 4]


def test_average_precision() -> None:
    assert average_precision(np.array([1, 3]), 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([], np.int64), 2) == 0
    assert average_precision(np.array([1, 3]), 2, "trapezoid") == pytest.approx(
        (1 + (1 / 2 + 2 / 3) / 2) / 2
    )


def test_interpolated_precision() -> None:
    # Right answers at ranks 2, 3 and 12 of 4: precisions 1/2, 2/3, 3/12.
    recalls = [0.0, 0.25, 0.26, 0.5, 0.75, 0.76, 1.0]
    found = interpolated_precision(np.array([2, 3, 12]), 4, recalls)
    assert found.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2 / 3, 1 / 4, 0, 0])
    assert interpolated_precision(np.array([], np.int64), 2, [0.0, 0.5]).tolist() == [0, 0]
    # 0.7 * 10 is more than 7 in floating point.
    assert interpolated_precision(np.arange(1, 8), 10, [0.7, 0.71]).tolist() == [1, 0]
