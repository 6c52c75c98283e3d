"""The demo trains a shipped recipe; the whole of it is run in tests/cli/test_demo.py."""

from pathlib import Path

import pytest

import personsearch
from personsearch.demo.build import demo_recipe
from personsearch.errors import RecipeError
from personsearch.training.recipe import read_recipe

SHIPPED = Path(personsearch.__file__).parent / "recipes" / "synthetic-small" / "oim.toml"


def test_without_a_recipe_it_is_the_shipped_one() -> None:
    shipped = read_recipe(SHIPPED)
    assert demo_recipe(None, None).to_toml() == shipped.to_toml()
    assert demo_recipe(None, 7).to_toml() == shipped.model_copy(update={"seed": 7}).to_toml()
    assert demo_recipe(SHIPPED, None).to_toml() == shipped.to_toml()


def test_a_missing_recipe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        demo_recipe(tmp_path / "none.toml", None)
