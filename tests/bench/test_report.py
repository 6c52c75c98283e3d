import math
from pathlib import Path

import pytest

from personsearch.bench import report
from personsearch.bench.ablation import Ablation, Column, Figure, Variant
from personsearch.bench.data import NOT_DRAWN, Source
from personsearch.bench.files import write_json
from personsearch.bench.plan import Planner
from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError

FIRST = Ablation(
    name="first",
    title="first",
    recipe="oim",
    column=(Column(measure="mean_ap", title="mAP"),),
    variant=(Variant(name="a"), Variant(name="b", set={"oim_weight": 0.5})),
    figure=(Figure(kind="columns", title="f", measures=("mean_ap",), ticks=(1.0,)),),
)
SECOND = FIRST.model_copy(
    update={"name": "second", "variant": (Variant(name="c", set={"lr": 1.0}),)}
)


def planner(recipes: Path, runs: Path, drawn: Dataset) -> Planner:
    return Planner(recipes, runs, "tiny", {"main": drawn.root}, draw=False)


def test_the_first_seed_of_everything_comes_before_the_second_of_anything(
    recipes: Path, tmp_path: Path, drawn: Dataset
) -> None:
    runs = report.wanted(planner(recipes, tmp_path, drawn), [FIRST, SECOND], 2)
    assert [run.values["seed"] for run in runs] == [0, 0, 0, 1, 1, 1]
    assert len({run.name for run in runs}) == 6
    urgent = SECOND.model_copy(update={"priority": 1})
    first = report.wanted(planner(recipes, tmp_path, drawn), [FIRST, urgent], 2)[:2]
    assert [(run.values["lr"], run.values["seed"]) for run in first] == [(1.0, 0), (1.0, 1)]


def test_what_is_known_goes_into_a_section_with_its_picture(
    recipes: Path, tmp_path: Path, drawn: Dataset
) -> None:
    plan = planner(recipes, tmp_path / "runs", drawn)
    run = plan.table(FIRST, 1)["a"][0]
    metrics = {"figures": {"mean_ap": 0.25}, "checkpoint": "last"}
    write_json(run.folder(plan.runs) / "metrics.json", metrics)
    known = report.results(plan, FIRST, 2)
    assert [result.finished for result in known["a"]] == [True, False]
    out = tmp_path / "docs" / "results.md"
    (one,) = report.sections(plan, [FIRST], 2)
    text = report.document(one, out)
    assert "| a | 25.0 | · | 1 |" in text
    assert "| b | · | · | not run |" in text
    assert "Colour alone on true boxes: mAP 100.0 %." in text
    assert text.endswith("![first](images/first.png)\n")
    assert (out.parent / "images" / "first.png").is_file()


def test_an_ablation_that_cannot_be_planned_says_why(
    recipes: Path, tmp_path: Path, drawn: Dataset
) -> None:
    missing = FIRST.model_copy(update={"recipe": "later"})
    (one,) = report.sections(planner(recipes, tmp_path, drawn), [missing], 1)
    text = report.document(one, None)
    assert text.startswith("## first: first\n\nNot run: ")
    assert "later.toml: no such recipe" in text


def test_without_runs_there_is_no_floor(recipes: Path, tmp_path: Path, drawn: Dataset) -> None:
    assert math.isnan(
        report.floor(planner(recipes, tmp_path, drawn), Ablation(name="x", title="x"))
    )


def test_plain_colors_are_found_by_color_once(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report.color_floor(source, tmp_path) == 1.0
    monkeypatch.setattr(report, "evaluate_search", None)
    assert report.color_floor(source, tmp_path) == 1.0


def test_what_is_not_drawn_has_no_floor(tmp_path: Path) -> None:
    assert math.isnan(report.color_floor(Source(tmp_path / "nothing", NOT_DRAWN), tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_without_queries_there_is_no_floor(
    source: Source, drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Dataset("empty", drawn.root, drawn.splits)
    monkeypatch.setattr(report, "opened", lambda folder: empty)
    with pytest.raises(DataError, match="no search protocol with queries"):
        report.color_floor(source, tmp_path)
