"""Claims of the papers, tested on paired differences between runs of the same seeds.

Runs of the same seed draw the same pictures in the same order, so two variants are compared seed by
seed. A claim is shown, or its opposite, where the two-sided 95 % t interval of the mean difference
leaves out zero; otherwise it is not resolved at this size. Every claim of a report is one of a
family of tests, and each answer says whether it survives Holm's correction for all of them.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from personsearch.bench.ablation import Ablation, Claim, Variant
from personsearch.bench.runs import Result

ENOUGH_SEEDS = 5
"""A claim gets no answer with fewer seeds: chance moves a run by more than most losses do."""
LEVEL = 0.05
"""Share of claims that chance alone resolves, of one claim and, corrected, of the family."""

Results = Mapping[str, Sequence[Result]]  # by variant, in the order of the seeds


@dataclass(frozen=True)
class Mean:
    """Mean of a metric over `count` finished seeds, and the deviation (n - 1) between them."""

    value: float  # NaN for no seed
    deviation: float  # NaN for fewer than two
    count: int

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN for fewer than two seeds."""
        return self.deviation / math.sqrt(self.count) if self.count else math.nan

    @property
    def margin(self) -> float:
        """Half the width of the 95 % t interval; NaN for fewer than two seeds."""
        from scipy.special import stdtrit

        if self.count < 2:
            return math.nan
        return float(stdtrit(self.count - 1, 1 - LEVEL / 2)) * self.error

    @property
    def p(self) -> float:
        """Two-sided p value of the t test against zero; NaN for fewer than two seeds."""
        from scipy.special import stdtr

        if self.count < 2:
            return math.nan
        if not self.error:
            return 0.0 if self.value else 1.0
        return 2 * float(stdtr(self.count - 1, -abs(self.value) / self.error))


@dataclass(frozen=True)
class Verdict:
    """A claim, and by how much the better variant is better here, seed by seed."""

    claim: Claim
    difference: Mean
    corrected: bool = False  # resolved after Holm's correction, too

    @property
    def tested(self) -> bool:
        """Whether there are seeds enough for an answer."""
        return self.difference.count >= ENOUGH_SEEDS

    @property
    def resolved(self) -> bool:
        """Whether the 95 % interval leaves out zero."""
        return self.tested and self.difference.p < LEVEL

    @property
    def opposite(self) -> bool:
        """Whether the opposite of the claim shows."""
        return self.resolved and self.difference.value < 0

    @property
    def answer(self) -> str:
        """``shown``, ``opposite``, ``not resolved at this size``, or how few seeds there are."""
        count = self.difference.count
        if not self.tested:
            return f"{count} of {ENOUGH_SEEDS} seeds" if count else "not run"
        if not self.resolved:
            return "not resolved at this size"
        answer = "opposite" if self.opposite else "shown"
        if self.opposite and self.claim.reversed_on:
            answer += f", as on {self.claim.reversed_on}"
        return answer if self.corrected else f"{answer} (uncorrected)"


def mean(values: Sequence[float]) -> Mean:
    """Return mean and deviation of the finite values."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return Mean(math.nan, math.nan, 0)
    deviation = statistics.stdev(known) if len(known) > 1 else math.nan
    return Mean(statistics.fmean(known), deviation, len(known))


def values(results: Sequence[Result], measure: str) -> list[float]:
    """Return the metric of each seed; NaN where it was not measured."""
    return [result.metrics.get(measure, math.nan) for result in results]


def metric_name(variant: Variant, measure: str) -> str:
    """Return the metric that stands in a variant's cell of a column."""
    return variant.columns.get(measure, measure)


def against(
    first: Sequence[Result], other: Sequence[Result], one: str, two: str, sign: float = 1.0
) -> Mean:
    """Return the paired difference: metric `two` of `other` less `one` of `first`, times `sign`."""
    pairs = zip(values(other, two), values(first, one), strict=False)
    return mean([sign * (b - a) for b, a in pairs])


def verdict(ablation: Ablation, claim: Claim, results: Results) -> Verdict:
    """Compare the two variants of a claim, uncorrected."""
    better, worse = ablation.named(claim.better), ablation.named(claim.worse)
    first, other = results.get(worse.name, ()), results.get(better.name, ())
    one = metric_name(worse, claim.worse_measure or claim.measure)
    two = metric_name(better, claim.measure)
    return Verdict(claim, against(first, other, one, two, sign=-1.0 if claim.less else 1.0))


def corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts of a family, in order, with Holm's correction for all that are tested."""
    tested = sorted(
        (k for k, one in enumerate(verdicts) if one.tested), key=lambda k: verdicts[k].difference.p
    )
    kept: set[int] = set()
    for rank, k in enumerate(tested):
        if not verdicts[k].difference.p < LEVEL / (len(tested) - rank):
            break
        kept.add(k)
    return [replace(one, corrected=k in kept) for k, one in enumerate(verdicts)]
