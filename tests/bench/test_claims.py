"""Means, paired differences and answers, against numbers worked out by hand or by SciPy."""

import math

import pytest
from scipy import stats

from personsearch.bench.ablation import Ablation, Claim, Column, Variant
from personsearch.bench.claims import Verdict, against, corrected, mean, verdict
from personsearch.bench.runs import Result

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


def test_the_interval_and_the_p_value_are_those_of_the_t_test() -> None:
    values = [0.02, 0.05, -0.01, 0.03, 0.04]
    known, one = stats.ttest_1samp(values, 0.0), mean(values)
    assert one.p == pytest.approx(known.pvalue)
    low, high = known.confidence_interval(0.95)
    assert (one.value - one.margin, one.value + one.margin) == pytest.approx((low, high))
    assert math.isnan(mean([0.1]).p)
    assert math.isnan(mean([0.1]).margin)
    assert (mean([0.5, 0.5]).p, mean([0.0, 0.0]).p) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("differences", "answer"),
    [
        ((0.02, 0.05, 0.01, 0.03, 0.04), "shown (uncorrected)"),
        ((-0.02, -0.05, -0.01, -0.03, -0.04), "opposite (uncorrected)"),
        # Two standard errors from zero, which five seeds do not make 95 %.
        ((0.02, 0.05, -0.02, 0.04, 0.05), "not resolved at this size"),
        ((), "not run"),
        ((0.5, 0.5, 0.5), "3 of 5 seeds"),
    ],
)
def test_answers(differences: tuple[float, ...], answer: str) -> None:
    known = {"a": seeds_of(*differences), "b": seeds_of(*(0.0 for _ in differences))}
    assert verdict(COMPARED, CLAIM, known).answer == answer


def test_the_paper_itself_may_find_the_opposite_elsewhere() -> None:
    claim = CLAIM.model_copy(update={"reversed_on": "PRW"})
    known = {"a": seeds_of(*[0.1] * 5), "b": seeds_of(*[0.2] * 5)}
    (one,) = corrected([verdict(COMPARED, claim, known)])
    assert one.answer == "opposite, as on PRW"


def test_holms_correction_counts_the_claims_that_are_tested() -> None:
    def with_p(t: float) -> Verdict:
        # Five values whose mean is t standard errors from zero.
        values = [x + t * math.sqrt(2.5 / 5) for x in (-2.0, -1.0, 0.0, 1.0, 2.0)]
        return Verdict(CLAIM, mean(values))

    untested = Verdict(CLAIM, mean([0.1, 0.1]))
    # p: .0026, .018, .040: the second is below .05 / 2, so the third is compared with .05.
    family = [with_p(3.0), untested, with_p(6.6), with_p(4.0)]
    assert [round(one.difference.p, 3) for one in family] == [0.04, 0.0, 0.003, 0.016]
    assert [one.corrected for one in corrected(family)] == [True, False, True, True]
    # One more claim takes the second and, after it, all that are weaker.
    weaker = [*family, with_p(2.9)]
    assert [one.corrected for one in corrected(weaker)] == [False, False, True, True, False]
    assert corrected([with_p(3.0)])[0].answer == "shown"
    assert corrected([with_p(3.0), with_p(2.9)])[0].answer == "shown (uncorrected)"


def test_seeds_that_failed_on_either_side_are_left_out() -> None:
    failed = Result({}, failure="ValueError: no")
    known = {"a": [*seeds_of(0.5), failed, *seeds_of(0.7)], "b": seeds_of(0.1, 0.2, 0.3)}
    assert verdict(COMPARED, CLAIM, known).difference.count == 2


def test_a_claim_may_be_about_less_or_about_two_figures_of_one_variant() -> None:
    known = {"a": seeds_of(0.2, 0.2, 0.2), "b": seeds_of(0.5, 0.5, 0.6)}
    less = Claim(says="a is quicker", better="a", worse="b", less=True)
    assert verdict(COMPARED, less, known).difference.value == pytest.approx(1 / 3)
    two = Claim(says="mAP is above top-1", better="a", worse="a", worse_measure="top_1")
    assert verdict(COMPARED, two, known).difference.value == pytest.approx(0.1)


def test_a_variant_may_show_another_figure_in_a_column() -> None:
    claim = Claim(says="b beats c", better="b", worse="c")
    known = {"b": seeds_of(0.4, 0.5, 0.6), "c": seeds_of(0.4, 0.5, 0.6)}
    assert verdict(COMPARED, claim, known).difference.value == pytest.approx(0.25)
    assert against(known["b"], known["c"], "mean_ap", "top_1").value == pytest.approx(-0.25)
