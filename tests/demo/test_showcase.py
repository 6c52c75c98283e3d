"""Examples are spread over the ranking of all queries, nobody picks them."""

import numpy as np
import pytest

from personsearch.demo.showcase import spread
from personsearch.errors import EvaluationError


def test_best_and_worst_are_shown_and_the_rest_is_evenly_spaced() -> None:
    precisions = np.random.default_rng(0).permutation(101) / 100
    assert precisions[spread(precisions, 5)].tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_queries_that_count_nowhere_are_never_shown() -> None:
    assert spread([0.5, np.nan, 0.9, np.nan], 8).tolist() == [2, 0]
    assert spread([np.nan], 8).tolist() == []


def test_equal_ones_keep_their_order() -> None:
    assert spread([1.0, 1.0, 1.0], 2).tolist() == [0, 2]


def test_fewer_than_two_is_no_spread() -> None:
    with pytest.raises(EvaluationError, match="best and the worst"):
        spread([1.0], 1)
