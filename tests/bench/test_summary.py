"""Means, differences and verdicts, against numbers worked out by hand."""

import math

import pytest

from personsearch.bench.ablation import Ablation, Claim, Column, Variant
from personsearch.bench.runs import Result
from personsearch.bench.summary import against, mean, verdict

CLAIM = Claim(says="a beats b", better="a", worse="b")
ABLATION = Ablation(
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


def results(*values: float) -> list[Result]:
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
    one = verdict(ABLATION, CLAIM, {"a": results(0.52, 0.71, 0.33), "b": results(0.5, 0.7, 0.3)})
    assert one.difference.value == pytest.approx(0.02)
    assert one.difference.deviation == pytest.approx(0.01)
    assert (one.answer, one.clear) == ("yes", True)


def test_a_small_difference_is_said_to_be_small() -> None:
    chance = verdict(ABLATION, CLAIM, {"a": results(0.5, 0.5, 0.6), "b": results(0.5, 0.6, 0.4)})
    assert chance.answer == "yes, within two standard errors"
    against_it = verdict(
        ABLATION, CLAIM, {"a": results(0.1, 0.1, 0.1), "b": results(0.5, 0.6, 0.4)}
    )
    assert (against_it.answer, against_it.clear) == ("no", True)


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [((), (), "not run"), ((0.5,), (0.1,), "1 seed"), ((0.5, 0.6, 0.7), (0.1, 0.2), "2 seeds")],
)
def test_with_few_seeds_nothing_is_claimed(
    a: tuple[float, ...], b: tuple[float, ...], answer: str
) -> None:
    one = verdict(ABLATION, CLAIM, {"a": results(*a), "b": results(*b)})
    assert one.answer == answer
    assert not one.clear


def test_seeds_that_failed_on_either_side_are_left_out() -> None:
    failed = Result({}, failure="ValueError: no")
    known = {"a": [*results(0.5), failed, *results(0.7)], "b": results(0.1, 0.2, 0.3)}
    assert verdict(ABLATION, CLAIM, known).difference.count == 2


def test_a_claim_may_be_about_less_or_about_two_figures_of_one_variant() -> None:
    known = {"a": results(0.2, 0.2, 0.2), "b": results(0.5, 0.5, 0.6)}
    less = Claim(says="a is quicker", better="a", worse="b", less=True)
    assert verdict(ABLATION, less, known).answer == "yes"
    two = Claim(says="mAP is above top-1", better="a", worse="a", worse_measure="top_1")
    assert verdict(ABLATION, two, known).difference.value == pytest.approx(0.1)


def test_a_variant_may_show_another_figure_in_a_column() -> None:
    claim = Claim(says="b beats c", better="b", worse="c")
    known = {"b": results(0.4, 0.5, 0.6), "c": results(0.4, 0.5, 0.6)}
    assert verdict(ABLATION, claim, known).difference.value == pytest.approx(0.25)
    assert against(known["b"], known["c"], "mean_ap", "top_1").value == pytest.approx(-0.25)
