import math

import pytest

from personsearch.bench.ablation import Ablation, Claim, Column, Variant
from personsearch.bench.runs import Result
from personsearch.bench.tables import (
    Mean,
    Results,
    against,
    as_json,
    document,
    markdown,
    mean,
    narrowed,
    section,
    verdict,
    with_deviation,
    with_error,
)
from personsearch.plots.tables import TextTable

ABLATION = Ablation(
    name="losses",
    title="losses",
    paper="Someone 2020, table 1",
    note="A note.",
    recipe="oim",
    column=(
        Column(measure="mean_ap", title="mAP"),
        Column(measure="train_seconds", title="training, s", unit="number", difference=False),
    ),
    variant=(
        Variant(name="with", label="with the loss", paper={"mean_ap": 83.7}),
        Variant(name="without", paper={"mean_ap": 81.0}),
    ),
    claim=(Claim(says="the loss helps", better="with", worse="without"),),
)
FAILED = Result({}, failure="NonFiniteLossError: loss is nan")


def results(a: list[float], b: list[float]) -> Results:
    def made(values: list[float]) -> list[Result]:
        return [Result({"mean_ap": value, "train_seconds": 61.25}) for value in values]

    return {"with": made(a), "without": made(b)}


KNOWN = results([0.30, 0.32, 0.31], [0.28, 0.29, 0.285])


def test_ours_the_difference_and_the_papers_stand_side_by_side() -> None:
    table = section(ABLATION, KNOWN).table
    assert table.header == ["variant", "mAP, %", "to first row", "paper", "training, s", "seeds"]
    assert table.rows == [
        ["with the loss", "31.0 ± 1.0", "·", "83.7", "61.2 ± 0", "3"],
        ["without", "28.5 ± 0.5", "-2.5 ± 0.3", "81", "61.2 ± 0", "3"],
    ]


def test_a_claim_is_answered_beside_the_papers_difference() -> None:
    assert section(ABLATION, KNOWN).claims.rows == [["the loss helps", "yes", "+2.5 ± 0.3", "+2.7"]]


def test_runs_that_are_missing_or_failed_are_marked() -> None:
    one = section(ABLATION, {"with": results([0.3], [])["with"], "without": [FAILED]})
    assert one.table.rows[0] == ["with the loss", "30.0", "·", "83.7", "61.2", "1"]
    assert one.table.rows[1] == ["without", "·", "·", "81", "·", "not run"]
    assert one.claims.rows[0][1:] == ["not run", "·", "+2.7"]
    assert one.remarks == ["without, seed 0: NonFiniteLossError: loss is nan"]


@pytest.mark.parametrize(
    ("b", "words"),
    [
        ([0.40, 0.42, 0.41], "does not show on synthetic data: the opposite does."),
        ([0.28, 0.29, 0.40], "does not show on synthetic data: the difference could be chance."),
    ],
)
def test_a_finding_that_does_not_show_is_said_plainly(b: list[float], words: str) -> None:
    (remark,) = section(ABLATION, results([0.30, 0.32, 0.31], b)).remarks
    assert remark == f'The paper\'s finding "the loss helps" {words}'


def test_a_document_holds_everything() -> None:
    text = document(section(ABLATION, KNOWN, floor=0.361), 3, ["images/losses.png"])
    assert text.startswith(
        "### losses: losses\n\nPaper: Someone 2020, table 1.\n\nA note.\n\n| var"
    )
    assert "| with the loss | 31.0 ± 1.0 | · | 83.7 | 61.2 ± 0 | 3 |" in text
    assert "Colour alone on true boxes: mAP 36.1 %." in text
    assert text.endswith("![losses](images/losses.png)\n")


def test_a_document_of_nothing_says_so() -> None:
    text = document(section(ABLATION, {}, floor=0.361))
    assert text.endswith("A note.\n\nNot run.\n")


def test_a_wide_table_is_printed_as_several() -> None:
    table = TextTable("t", ("name", "first", "second", "third"), [("x", "1", "22", "333333333")])
    assert narrowed(table, 80) == [
        TextTable("t", ["name", "first", "second", "third"], [["x", "1", "22", "333333333"]])
    ]
    several = narrowed(table, 26)
    assert [part.header for part in several] == [["name", "first", "second"], ["name", "third"]]
    assert [part.title for part in several] == ["t", ""]
    assert several[1].rows == [["x", "333333333"]]
    # A column that fits nowhere still is printed.
    assert [part.header[1] for part in narrowed(table, 5)] == ["first", "second", "third"]


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    table = TextTable("t", ("a", "b"), [("x | y", "1")])
    assert markdown(table) == "| a | b |\n| --- | ---: |\n| x \\| y | 1 |"


def test_json_has_no_nan() -> None:
    values = as_json(ABLATION, {"with": results([0.3], [])["with"]}, math.nan)
    figures = values["variants"]["with"]["figures"]["mean_ap"]
    assert figures == {"mean": 0.3, "deviation": None, "count": 1}
    assert values["hsv_floor"] is None
    assert values["claims"][0]["here"] == "not run"


def test_large_and_small_numbers_are_readable() -> None:
    assert with_deviation(Mean(1_427_198.0, 0.0, 3), percent=False) == "1,427,198 ± 0"
    assert with_deviation(Mean(0.5, math.nan, 1), percent=True) == "50.0"
    assert with_error(Mean(-1.234567, 0.2, 4), percent=False) == "-1.23 ± 0.1"


# Means, differences and verdicts, against numbers worked out by hand.

CLAIM = Claim(says="a beats b", better="a", worse="b")
COMPARED = Ablation(
    name="x",
    title="x",
    recipe="oim",
    column=(Column(measure="mean_ap", title="mAP"),),
    variant=(
        Variant(name="a"),
        Variant(name="b"),
        Variant(name="c", columns={"mean_ap": "top_1"}),
    ),
    claim=(CLAIM,),
)


def seeds_of(*values: float) -> list[Result]:
    return [Result({"mean_ap": value, "top_1": value / 2}) for value in values]


def test_the_mean_and_the_deviation_between_seeds() -> None:
    one = mean([0.1, 0.2, 0.6])
    assert one.value == pytest.approx(0.3)
    assert one.deviation == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert one.error == pytest.approx(one.deviation / math.sqrt(3))
    assert mean([0.1, math.nan]).count == 1
    assert math.isnan(mean([0.1]).deviation)
    assert math.isnan(mean([]).value)
    assert math.isnan(mean([]).error)


def test_variants_are_compared_seed_by_seed() -> None:
    # The seeds differ by far more than the variants, and always in the same sense.
    one = verdict(COMPARED, CLAIM, {"a": seeds_of(0.52, 0.71, 0.33), "b": seeds_of(0.5, 0.7, 0.3)})
    assert one.difference.value == pytest.approx(0.02)
    assert one.difference.deviation == pytest.approx(0.01)
    assert (one.answer, one.clear) == ("yes", True)


def test_a_small_difference_is_said_to_be_small() -> None:
    chance = verdict(COMPARED, CLAIM, {"a": seeds_of(0.5, 0.5, 0.6), "b": seeds_of(0.5, 0.6, 0.4)})
    assert chance.answer == "yes, within two standard errors"
    against_it = verdict(
        COMPARED, CLAIM, {"a": seeds_of(0.1, 0.1, 0.1), "b": seeds_of(0.5, 0.6, 0.4)}
    )
    assert (against_it.answer, against_it.clear) == ("no", True)


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [((), (), "not run"), ((0.5,), (0.1,), "1 seed"), ((0.5, 0.6, 0.7), (0.1, 0.2), "2 seeds")],
)
def test_with_few_seeds_nothing_is_claimed(
    a: tuple[float, ...], b: tuple[float, ...], answer: str
) -> None:
    one = verdict(COMPARED, CLAIM, {"a": seeds_of(*a), "b": seeds_of(*b)})
    assert one.answer == answer
    assert not one.clear


def test_seeds_that_failed_on_either_side_are_left_out() -> None:
    failed = Result({}, failure="ValueError: no")
    known = {"a": [*seeds_of(0.5), failed, *seeds_of(0.7)], "b": seeds_of(0.1, 0.2, 0.3)}
    assert verdict(COMPARED, CLAIM, known).difference.count == 2


def test_a_claim_may_be_about_less_or_about_two_figures_of_one_variant() -> None:
    known = {"a": seeds_of(0.2, 0.2, 0.2), "b": seeds_of(0.5, 0.5, 0.6)}
    less = Claim(says="a is quicker", better="a", worse="b", less=True)
    assert verdict(COMPARED, less, known).answer == "yes"
    two = Claim(says="mAP is above top-1", better="a", worse="a", worse_measure="top_1")
    assert verdict(COMPARED, two, known).difference.value == pytest.approx(0.1)


def test_a_variant_may_show_another_figure_in_a_column() -> None:
    claim = Claim(says="b beats c", better="b", worse="c")
    known = {"b": seeds_of(0.4, 0.5, 0.6), "c": seeds_of(0.4, 0.5, 0.6)}
    assert verdict(COMPARED, claim, known).difference.value == pytest.approx(0.25)
    assert against(known["b"], known["c"], "mean_ap", "top_1").value == pytest.approx(-0.25)
