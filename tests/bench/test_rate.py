from pathlib import Path

import torch

from personsearch.bench.rate import STEPS, measure
from personsearch.datasets.dataset import Dataset
from personsearch.training.recipe import read_recipe


def test_a_moment_of_training_and_search_is_timed(
    recipes: Path, drawn: Dataset, tmp_path: Path
) -> None:
    recipe = read_recipe(recipes / "oim.toml").model_copy(
        update={"data": str(drawn.root), "iterations": 100}
    )
    rate = measure(recipe, torch.device("cpu"), tmp_path)
    assert set(rate) == {
        "seconds@crops",
        "before@crops",
        "seconds@scenes",
        "before@scenes",
        "seconds_per_picture",
        "pictures",
        "kept_bytes",
        "working_bytes",
    }
    assert 0 < rate["seconds@scenes"] < 10
    assert rate["seconds_per_picture"] > 0
    assert rate["pictures"] == len(drawn.split("test"))
    assert rate["working_bytes"] > 2 * rate["kept_bytes"] > 0
    assert list(tmp_path.iterdir()) == []
    assert STEPS < 100
