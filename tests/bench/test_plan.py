from pathlib import Path

import pytest

from personsearch.bench.ablation import Ablation, Data, Variant
from personsearch.bench.execute import with_needs
from personsearch.bench.files import write_json
from personsearch.bench.plan import Planner
from personsearch.bench.runs import checkpoint
from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError, RecipeError


def ablation(*variants: Variant, **more: object) -> Ablation:
    return Ablation(name="x", title="x", recipe="oim", variant=variants, **more)  # type: ignore[arg-type]


def planner(recipes: Path, runs: Path, data: Dataset) -> Planner:
    return Planner(recipes, runs, "tiny", {"main": data.root}, draw=False)


def test_a_seed_or_a_key_makes_another_run(recipes: Path, tmp_path: Path, drawn: Dataset) -> None:
    plan = planner(recipes, tmp_path, drawn)
    x = ablation(Variant(name="a"), Variant(name="b", set={"oim_weight": 0.5}))
    table = plan.table(x, 2)
    names = [run.name for runs in table.values() for run in runs]
    assert len(set(names)) == 4
    assert names[0].startswith("oim-seed0-")
    again = planner(recipes, tmp_path, drawn).table(x, 2)
    assert [run.name for runs in again.values() for run in runs] == names


def test_equal_variants_of_two_tables_share_a_run(
    recipes: Path, tmp_path: Path, drawn: Dataset
) -> None:
    plan = planner(recipes, tmp_path, drawn)
    plain = plan.run(ablation(Variant(name="a")), Variant(name="a"), 0)
    said = Variant(name="b", set={"oim_momentum": 0.5})
    assert plan.run(ablation(said), said, 0) is plain


def test_a_run_that_starts_from_another_changes_with_it(
    recipes: Path, tmp_path: Path, drawn: Dataset
) -> None:
    plan = planner(recipes, tmp_path, drawn)
    late = Variant(name="late", set={"init": "run:early"})
    early = Variant(name="early", hidden=True)
    other = Variant(name="early", hidden=True, set={"lr": 0.5})
    run = plan.run(ablation(late, early), late, 0)
    assert run.name != plan.run(ablation(late, other), late, 0).name
    (needed,) = run.needs.values()
    assert [one.name for one in with_needs([run, run])] == [needed.name, run.name]
    with pytest.raises(DataError, match="is not a finished run"):
        run.recipe(tmp_path)
    metrics = {"figures": {"mean_ap": 0.5}, "checkpoint": "last"}
    write_json(needed.folder(tmp_path) / "metrics.json", metrics)
    with pytest.raises(DataError, match="the checkpoint of a finished run is gone; restore it"):
        run.recipe(tmp_path)
    (needed.folder(tmp_path) / "last").mkdir()
    assert run.recipe(tmp_path).init == str(checkpoint(needed.folder(tmp_path)))
    assert run.recipe(tmp_path).data == str(drawn.root)


def test_data_sets_are_filled_in_by_their_folders(
    recipes: Path, tmp_path: Path, drawn: Dataset
) -> None:
    # The baseline has no key for a second data set; one that takes any text shows as much.
    other = Variant(name="a", set={"weights": "data:far"}, test="far")
    x = ablation(other, data={"far": Data(seed=3)})
    run = planner(recipes, tmp_path, drawn).run(x, other, 0)
    folder = tmp_path / "data" / "tiny-person-3"
    assert run.recipe(tmp_path).weights == str(folder)
    assert run.test.folder == folder
    assert run.data.folder == drawn.root


def test_a_wrong_key_is_named_with_its_variant(
    recipes: Path, tmp_path: Path, drawn: Dataset
) -> None:
    wrong = Variant(name="a", set={"oim_wait": 0.5})
    with pytest.raises(RecipeError, match=r"x, variant 'a': unknown key 'oim_wait'.*'oim_weight'"):
        planner(recipes, tmp_path, drawn).run(ablation(wrong), wrong, 0)


def test_a_missing_recipe_says_where_to_look(tmp_path: Path, drawn: Dataset) -> None:
    with pytest.raises(RecipeError, match=r"no such recipe; .*has none.*--recipes"):
        planner(tmp_path, tmp_path, drawn).run(ablation(Variant(name="a")), Variant(name="a"), 0)
