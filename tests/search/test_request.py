"""A search request is checked when it is made."""

from typing import Any

import numpy as np
import pytest

from personsearch.errors import DataError, StoreError
from personsearch.search.request import Origin, SearchRequest
from personsearch.store import Filters

ONE = np.eye(3, dtype=np.float32)[:1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top is 0"),
        ({"rerank": "best"}, "rerank is 'best', expected k-reciprocal or expansion"),
        ({"expected": 0}, "expected is 0"),
        ({"expected": float("nan")}, "expected is nan"),
        ({"embeddings": ONE[0]}, r"shape \(3,\), expected \(N, D\)"),
        ({"pictures": [("a.png", (1, 2, 3))]}, "box 1,2,3: expected x1,y1,x2,y2"),
        ({"pictures": [("a.png", (5, 2, 3, 9))]}, "with x1 < x2"),
        ({"pictures": [("a.png", (0, 0, np.inf, 9))]}, "with x1 < x2"),
        ({"pictures": [("a.png", (0, 0, np.nan, 9))]}, "with x1 < x2"),
    ],
)
def test_impossible_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SearchRequest(**{"embeddings": ONE} | options)


@pytest.mark.parametrize("options", [{}, {"unlike": [1]}, {"embeddings": ONE[:0]}, {"people": []}])
def test_a_request_needs_an_example(options: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="no example of the person"):
        SearchRequest(**options)


def test_the_audit_log_gets_everything_but_embeddings() -> None:
    request = SearchRequest(
        people=np.array([3]),
        embeddings=np.concatenate([ONE, ONE]),
        origins=[Origin("ab", (1, 2, 3.333, 4))],
        filters=Filters(cameras=["gate"], sources=[]),
        top=5,
    )
    assert request.as_json() == {
        "people": [3],
        "unlike": [],
        "filters": {"cameras": ["gate"], "sources": []},
        "top": 5,
        "embeddings": 1,  # of unknown origin
    }
    assert request.origins[0].as_json() == {"picture_sha256": "ab", "box": [1, 2, 3.33, 4]}
