"""Every shipped ablation resolves at both scales; what stands for the paper's values is listed."""

from pathlib import Path

import pytest

from personsearch.bench import binding
from personsearch.bench.ablation import (
    MAIN,
    Ablation,
    Claim,
    Column,
    Data,
    Figure,
    Variant,
    ablation_names,
    read_ablation,
)
from personsearch.bench.binding import HEADLINE, Scale, bound, papers, read_binding
from personsearch.bench.data import Source
from personsearch.bench.plan import Planner
from personsearch.errors import RecipeError

ABLATION = Ablation(
    name="some-table-1",
    title="t",
    dataset="cuhk-sysu",
    recipe="dc-inet",
    set={"alpha": 0.5},
    column=(
        Column(measure="mean_ap@gallery-50", title="mAP, 50"),
        Column(measure="mean_ap@gallery-500", title="mAP, 500"),
    ),
    variant=(
        Variant(
            name="few",
            label="50 classes",
            set={"priority_classes": 50, "dictionary_size": 5120},
            paper={"mean_ap@gallery-50": 82.5, "mean_ap@gallery-500": 80.0},
        ),
        Variant(name="again", set={"init": "run:few"}),
    ),
    claim=(Claim(says="s", better="few", worse="again", measure="mean_ap@gallery-50"),),
    figure=(
        Figure(kind="columns", title="f", measures=("mean_ap@gallery-50", "mean_ap@gallery-500")),
    ),
    data={"prw": Data(dataset="prw")},
)
BINDING = """
title = "Somebody 2020"
protocols = { gallery-50 = "gallery-10", gallery-500 = "none" }

[data.prw]
seed = 7

[start.pairs]
recipe = "dc-inet"
set = { crop_iterations = 600, iterations = 0, warmup = 0 }
rows = { crop_iterations = 0 }

[table.some-table-1]
start = "pairs"
set = { iterations = 60 }
variant.few = { set = { priority_classes = 10 } }
"""


@pytest.fixture
def some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a paper's synthetic values."""
    monkeypatch.setattr(binding, "FOLDER", tmp_path)
    (tmp_path / "some.toml").write_text(BINDING)
    return tmp_path / "some.toml"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned runs whose data sets are not there."""
    source = Source(Path("nowhere"), "aa")
    monkeypatch.setattr(Planner, "source", lambda self, ablation, name: source)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("scale", ["synthetic", "paper"])
@pytest.mark.parametrize("name", ablation_names())
def test_every_variant_is_a_valid_recipe_at_both_scales(name: str, scale: Scale) -> None:
    ablation = bound(read_ablation(name), scale)
    planner = Planner(None, Path("unused"), scale=scale)
    for variant in ablation.variant:
        values = planner.values(ablation, variant, 1)
        assert set(variant.set) <= set(values)
        run = planner.run(ablation, variant, 1)
        on = variant.test or variant.train
        measured = ablation.dataset if on == MAIN else ablation.data[on].dataset
        assert bool(run.protocol) == (scale == "paper" and measured in HEADLINE)
    assert planner.table(ablation, 1) or not ablation.shown


def test_every_ablation_is_of_a_paper() -> None:
    assert {name.partition("-")[0] for name in ablation_names()} == set(papers())
    for paper in papers():
        assert read_binding(paper).title
        assert set(read_binding(paper).table) <= set(ablation_names())


def test_the_papers_values_are_used_as_they_are() -> None:
    assert bound(ABLATION, "paper") is ABLATION


@pytest.mark.usefixtures("some")
def test_synthetic_values_stand_for_the_papers_and_are_listed() -> None:
    here = bound(ABLATION, "synthetic")
    few = here.named("few")
    assert few.set == {
        "alpha": 0.5,
        "iterations": 60,
        "priority_classes": 10,
        "dictionary_size": 5120,
        "crop_iterations": 0,
        "init": "run:start-pairs",
    }
    start = here.named("start-pairs")
    assert (start.hidden, start.recipe) == (True, "dc-inet")
    assert start.set == {"crop_iterations": 600, "iterations": 0, "warmup": 0}
    # One that starts from another row keeps its start.
    assert here.named("again").set["init"] == "run:few"
    assert here.data["prw"].seed == 7
    assert here.here == (
        "data and base recipes are the preset's",
        "all rows: iterations = 60",
        "50 classes: priority_classes = 10 (paper: 50)",
        "rows of a seed start from one run of dc-inet, "
        "crop_iterations = 600, iterations = 0, warmup = 0",
    )


@pytest.mark.usefixtures("nowhere")
def test_a_start_goes_before_that_of_the_paper(some: Path) -> None:
    """The paper's is in the ablation's own `set`; a row's own `init` stays."""
    some.write_text(BINDING + 'variant.again = { recipe = "inet" }\n')
    first = Variant(name="first", recipe="xiao2016", hidden=True, set={"init": ""})
    ablation = ABLATION.model_copy(
        update={"set": {"init": "run:first"}, "variant": (*ABLATION.variant, first)}
    )
    here = bound(ablation, "synthetic")
    assert here.named("few").set["init"] == "run:start-pairs"
    assert here.named("again").set["init"] == "run:few"
    assert (here.named("few").recipe, here.named("again").recipe) == ("", "inet")
    paper = Planner(None, Path("unused"), scale="paper")
    needs = paper.run(ablation, ablation.named("few"), 0).needs
    assert needs["init"].values["system"] == "xiao2016"
    assert not needs["init"].needs


@pytest.mark.usefixtures("some")
def test_measures_and_charts_are_of_the_synthetic_protocols() -> None:
    here = bound(ABLATION, "synthetic")
    assert [(c.measure, c.title) for c in here.column] == [
        ("mean_ap@gallery-10", "mAP, 50 (here gallery-10)")
    ]
    assert here.named("few").paper == {"mean_ap@gallery-10": 82.5}
    assert here.claim[0].measure == "mean_ap@gallery-10"
    assert here.figure[0].positions == (10.0,)


@pytest.mark.usefixtures("nowhere", "some")
def test_the_rows_of_a_seed_share_their_start() -> None:
    here = bound(ABLATION, "synthetic")
    planner = Planner(None, Path("unused"))
    first = planner.run(here, here.named("few"), 0).needs["init"]
    again = planner.run(here, here.named("again"), 0).needs["init"]
    assert again.needs["init"] is first
    assert planner.run(here, here.named("few"), 1).needs["init"] is not first


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("variant.few", "variant.fex", "no variant 'fex'"),
        ('start = "pairs"', 'start = "pear"', "no start 'pear'"),
        ("title", "titel", "title"),
        ('title = "', "title = ", "some.toml"),
        ('gallery-500 = "none"', 'gallery-500 = "gallery-10"', "two columns"),
    ],
)
def test_contradictions_are_named(some: Path, old: str, new: str, message: str) -> None:
    some.write_text(BINDING.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message):
        bound(ABLATION, "synthetic")


def test_an_unknown_paper_lists_those_that_are_there() -> None:
    with pytest.raises(RecipeError, match="there are dcinet, loesch"):
        read_binding("newton")
