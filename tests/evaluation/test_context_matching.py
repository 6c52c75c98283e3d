"""Context matching: the assignment against every permutation, and who belongs to the context."""

from itertools import permutations

import numpy as np
import pytest

from personsearch.errors import EvaluationError
from personsearch.evaluation import ContextMatching, evaluate_search, query_context
from personsearch.evaluation.context_matching import match_context
from personsearch.types import Detections, Query, SearchProtocol

BOX = np.array([0, 0, 40, 100], np.float32)


def test_assignment_equals_trying_every_one() -> None:
    rng = np.random.default_rng(0)
    unmatched = 0
    for _ in range(500):
        products = rng.standard_normal(rng.integers(1, 5, 2))
        people, others = products.shape
        best, pairs = -np.inf, []
        if people <= others:
            choices = (list(enumerate(c)) for c in permutations(range(others), people))
        else:
            choices = (
                list(zip(r, range(others), strict=True))
                for r in permutations(range(people), others)
            )
        for choice in choices:
            total = sum(products[pair] for pair in choice)
            if total > best:
                best, pairs = total, choice
        own = [column for row, column in pairs if row == 0]
        expected = (own[0], max(products[pair] for pair in pairs)) if own else None
        assert match_context(products) == expected
        unmatched += expected is None
    assert unmatched > 20


def test_company_lifts_the_right_person() -> None:
    # Alone, the query looks more like the stranger; its companion stands beside the right one.
    query, companion = np.array([1, 0, 0], np.float32), np.array([0, 1, 0], np.float32)
    far = BOX + 100
    gallery = {
        "stranger": Detections(BOX[None], [1], [[0.8, 0, 0.6]]),
        "right": Detections([BOX, far], [1, 1], [[0.7, 0, 0.7], [0, 1, 0]]),
    }
    protocol = SearchProtocol(
        name="walk",
        queries=[Query("q", BOX, 1)],
        galleries=[["stranger", "right"]],
        targets=[{"right": BOX}],
    )
    assert evaluate_search(protocol, gallery, query[None]).top_k[1] == 0
    context = ContextMatching([np.stack([query, companion])], k1=3, k2=2)
    result = evaluate_search(protocol, gallery, query[None], context=context, ranked=1)
    assert result.top_k[1] == 1
    assert result.hits[0][0].similarity == 1
    # Too few pictures or people, and nothing changes.
    for k1, k2 in ((1, 2), (3, 1)):
        context = ContextMatching([np.stack([query, companion])], k1=k1, k2=k2)
        assert evaluate_search(protocol, gallery, query[None], context=context).top_k[1] == 0


def test_context_is_the_query_then_the_others_by_score() -> None:
    protocol = SearchProtocol(
        name="p", queries=[Query("q", BOX, 1)], galleries=[["a"]], targets=[{"a": BOX}]
    )
    found = Detections([BOX + 200, BOX + 1, BOX + 300, BOX + 400], [0.6, 1, 0.9, 0.4], np.eye(4))
    query = np.full((1, 4), 0.5, np.float32)
    (people,) = query_context(protocol, query, {"q": found})
    np.testing.assert_array_equal(people, np.stack([query[0], np.eye(4)[2], np.eye(4)[0]]))
    (alone,) = query_context(protocol, query, {"q": Detections(np.zeros((0, 4)), [])})
    np.testing.assert_array_equal(alone, query)
    with pytest.raises(EvaluationError, match="no detections for query scene 'q'"):
        query_context(protocol, query, {})


def test_refuses_settings_below_one() -> None:
    for settings in ({"k1": 0}, {"k2": 0}):
        with pytest.raises(EvaluationError, match="expected at least 1"):
            ContextMatching([], **settings)
