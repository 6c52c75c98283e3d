"""The shipped ablations are well formed."""

from pathlib import Path

import pytest

from personsearch.bench.ablation import ablation_names, read_ablation, systems_table
from personsearch.errors import RecipeError

NAMES = [
    *(f"dcinet-figure-{number}" for number in ("8", "8-prw", "8-tattoos", "12", "13")),
    *(f"dcinet-table-{number}" for number in range(1, 9)),
    *(f"loesch-table-1{part}" for part in ("a", "a-prw", "b", "c", "d")),
    "rdlr-figure-6",
    *(f"rdlr-table-{number}" for number in (4, 5)),
    "trident-figure-3",
    *(f"trident-table-{number}" for number in (1, 2, 3)),
    "trident-two-branches",
    *(f"xiao-figure-{number}" for number in (5, 6, 7)),
    *("xiao-speed", "xiao-table-2", "xiao-table-3"),
]
MINIMAL = """
title = "t"
recipe = "oim"
[[column]]
measure = "mean_ap"
title = "mAP"
[[variant]]
name = "a"
[[variant]]
name = "b"
"""


def test_every_ablation_of_the_papers_is_there() -> None:
    assert ablation_names() == sorted(NAMES)


@pytest.mark.parametrize("name", ablation_names())
def test_every_ablation_says_where_it_is_from_and_what_it_shows(name: str) -> None:
    ablation = read_ablation(name)
    assert ablation.paper
    assert (ablation.column and ablation.shown) or ablation.figure
    assert ablation.claim or ablation.figure
    # A figure along an axis needs a place for each of its measures.
    for figure in ablation.figure:
        assert len(figure.measures) == len(figure.positions)


def test_the_papers_own_figures() -> None:
    table = read_ablation("dcinet-table-5")
    assert table.named("triplet-hep").paper["mean_ap"] == 67.8
    assert table.named("olp-c2hep").paper["top_1"] == 85.8
    assert read_ablation("trident-table-1").named("no-agwf").paper["detection_ap"] == 92.30
    assert read_ablation("trident-table-3").named("proposed-star").paper["mean_ap"] == 48.0
    assert read_ablation("rdlr-table-5").named("triplet").paper["mean_ap"] == 92.49
    j4 = read_ablation("loesch-table-1d").named("j4-c").paper
    assert j4["mean_ap@gallery-4000@truth"] == 37.1
    assert read_ablation("loesch-table-1b").named("j3").paper == {
        "ms_per_person@batch-1-people-5": 12.2,
        "ms_per_person@batch-4-people-5": 7.8,
        "ms_per_person@batch-8-people-5": 7.2,
        "ms_per_person@batch-1-people-20": 3.4,
        "ms_per_person@batch-4-people-20": 2.4,
        "ms_per_person@batch-8-people-20": 2.2,
    }


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(RecipeError, match="did you mean 'dcinet-table-4'"):
        read_ablation("dcinet-table-44")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[[variant]]\nname = "a"', "two variants have the same name"),
        ('[[variant]]\nname = "c"\nset = {init = "run:z"}', "starts from 'z', no other variant"),
        ('[[variant]]\nname = "c"\nset = {init = "run:c"}', "starts from 'c', no other variant"),
        ('[[variant]]\nname = "c"\nset = {x = ["data:z"]}', "unknown data set 'z'"),
        ('[[variant]]\nname = "c"\ntest = "z"', "unknown data set 'z'"),
        ('[[variant]]\nname = "c"\npaper = {top_1 = 1.0}', "no column 'top_1'"),
        ('[[claim]]\nsays = "s"\nbetter = "a"\nworse = "z"', "no variant 'z'"),
        ('[[variant]]\nname = "A b"', "pattern"),
        ('[[variant]]\nname = "c"\nset = {seed = 7}', "sets 'seed', which each run gets"),
        ('[[variant]]\nname = "c"\npaper = {mean_ap = nan}', "finite"),
        ('set = {init = "run:z"}', "starts from 'z', no other variant"),
        ('set = {init = "data:z"}', "unknown data set 'z'"),
        (
            '[[variant]]\nname = "c"\nset = {init = "run:d"}\n'
            '[[variant]]\nname = "d"\nset = {init = "run:e"}\n'
            '[[variant]]\nname = "e"\nset = {reid_init = "run:c"}',
            "variants start from each other: (c -> d -> e -> c|d -> e -> c -> d|e -> c -> d -> e)",
        ),
        ("unheard = 1", "unheard"),
        ("title = [", "TOML"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, more: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f"{more}\n{MINIMAL}" if "=" in more.split("\n")[0] else f"{MINIMAL}\n{more}\n")
    with pytest.raises(RecipeError, match=message):
        read_ablation(str(path))


def test_columns_without_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(MINIMAL.partition("[[variant]]")[0])
    with pytest.raises(RecipeError, match="has columns but no row"):
        read_ablation(str(path))


def test_a_file_of_ones_own_has_its_stem_as_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL)
    ablation = read_ablation(str(path))
    assert (ablation.name, [v.name for v in ablation.shown]) == ("mine", ["a", "b"])


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


def test_recipes_whose_names_are_no_rows_are_rows(tmp_path: Path) -> None:
    (tmp_path / "My recipe (2).toml").touch()
    (row,) = systems_table(tmp_path).shown
    assert (row.name, row.label) == ("my-recipe-2", "My recipe (2)")
    (tmp_path / "my_recipe_2.toml").touch()
    with pytest.raises(RecipeError, match="do not differ in letters and digits; rename one"):
        systems_table(tmp_path)


def test_a_folder_without_recipes_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"holds no recipes; .*--recipes"):
        systems_table(tmp_path)
