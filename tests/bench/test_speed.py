from pathlib import Path

import pytest
import torch

from personsearch.bench.data import Source
from personsearch.bench.speed import BATCHES, PEOPLE, measure, with_people
from personsearch.errors import RecipeError
from personsearch.training.recipe import make_recipe, read_recipe


def test_a_system_reports_as_many_people_as_it_is_told(recipes: Path) -> None:
    model = with_people(read_recipe(recipes / "oim.toml"), 3).eval()
    found = model.detect([torch.rand(3, 64, 96), torch.rand(3, 80, 96)])
    assert [len(one.boxes) for one in found] == [3, 3]


def test_every_time_is_measured(recipes: Path, source: Source) -> None:
    recipe = read_recipe(recipes / "oim.toml")
    values = recipe.model_dump() | recipe.settings | {"data": str(source.folder)}
    figures = measure(make_recipe(values), torch.device("cpu"), repeats=2)
    for people in PEOPLE:
        for batch in BATCHES:
            assert figures[f"ms_per_person@batch-{batch}-people-{people}"] > 0
        joint = figures[f"ms_per_picture@people-{people}"]
        assert figures[f"ms_per_picture@people-{people}-separate"] > joint > 0


def test_a_system_that_cannot_be_told_says_so(
    recipes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipes / "oim.toml")
    settings = {k: v for k, v in recipe.settings.items() if k != "max_detections"}
    with pytest.raises(RecipeError, match="'oim' has no key 'max_detections'"):
        with_people(recipe.model_copy(update={"settings": settings}), 3)
