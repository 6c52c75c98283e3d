from pathlib import Path

import pytest

from personsearch.bench.systems import systems_table
from personsearch.errors import RecipeError


def test_every_recipe_is_a_row_and_the_baseline_is_first(tmp_path: Path) -> None:
    for name in ("trident", "dc-inet", "oim"):
        (tmp_path / f"{name}.toml").touch()
    table = systems_table(tmp_path)
    assert [variant.recipe for variant in table.shown] == ["oim", "dc-inet", "trident"]
    assert [variant.label for variant in table.shown] == ["oim", "dc-inet", "trident"]
    assert table.name == tmp_path.name
    measures = [column.measure for column in table.column]
    assert measures[0] == "mean_ap"
    assert {"mean_ap@truth", "detection_ap", "parameters", "peak_memory_mb"} <= set(measures)


def test_a_folder_without_recipes_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"holds no recipes; .*--recipes"):
        systems_table(tmp_path)
