"""Requests of the API: bounds, and ids as text or numbers."""

from typing import Any

import pytest
from pydantic import ValidationError

from personsearch.store import Filters
from personsearch.web.schemas import EraseRequest, SearchBody


def test_ids_are_text_or_numbers() -> None:
    last = 2**63 - 1
    assert EraseRequest(people=["1", 2, str(last)]).people == [1, 2, last]  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", ["0", "01", "-1", "1.0", "x", "", 0, -1, 1.5, True, None, 2**63])
def test_other_ids_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        EraseRequest(people=[wrong])


def test_a_search_has_defaults_that_restrict_nothing() -> None:
    body = SearchBody()
    assert Filters(**body.filters.model_dump()) == Filters()
    assert body.top == 24


@pytest.mark.parametrize(
    "wrong",
    [
        {"top": 501},
        {"top": "5"},
        {"path": "/etc/passwd"},
        {"filters": {"names": ["x"]}},
        {"filters": {"min_score": float("nan")}},
        {"filters": {"cameras": ["x" * 5000]}},
    ],
)
def test_values_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SearchBody(**wrong)
