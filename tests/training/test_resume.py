"""A changed key is named with both values; a run may become longer where that changes nothing."""

from typing import Any

import pytest

from personsearch.errors import CheckpointError
from personsearch.training.recipe import Recipe, make_recipe
from personsearch.training.resume import WITHOUT_INFLUENCE, check_recipe


def recipe(**changes: Any) -> Recipe:
    return make_recipe({"system": "oim", "iterations": 10, "lr": 0.01} | changes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"iterations": 20}, {"iterations": 6}, {"loader_workers": 0, "log_every": 1}],
)
def test_a_run_goes_on_where_nothing_that_it_trained_changes(changes: dict[str, Any]) -> None:
    check_recipe(recipe(), recipe(**changes), 6, "run/last")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.1}, r"run/last: .*another recipe: lr is 0\.1 but was 0\.01; go on with"),
        ({"queue_size": 7, "data": "here"}, "data is 'here' but was '', queue_size is 7 but was"),
        ({"system": "nae"}, "system is 'nae' but was 'oim'"),
        ({"iterations": 20, "lr": 0.1}, "another recipe: iterations is 20 but was 10, lr is"),
        ({"iterations": 5}, "cannot be shortened: iterations is 5 but was 10, and 6 iterations"),
    ],
)
def test_a_changed_key_is_named_with_both_values(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        check_recipe(recipe(), recipe(**changes), 6, "run/last")


def test_a_run_with_a_cosine_schedule_cannot_change_its_length() -> None:
    with pytest.raises(CheckpointError, match=r"iterations is 20 but was 10.*'cosine'.*init"):
        check_recipe(
            recipe(schedule="cosine"), recipe(schedule="cosine", iterations=20), 10, "run/last"
        )


def test_keys_without_influence_are_keys() -> None:
    assert set(Recipe.model_fields) >= WITHOUT_INFLUENCE
