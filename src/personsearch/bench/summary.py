"""Results over several seeds: means, deviations, paired differences, and verdicts on claims.

Runs of the same seed draw the same pictures in the same order, so two variants are compared seed by
seed: the difference is the mean of the paired differences, its standard error their deviation over
the root of their number.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from personsearch.bench.ablation import Ablation, Claim, Variant
from personsearch.bench.runs import Result

ENOUGH_SEEDS = 3
"""A claim gets no verdict with fewer seeds: chance moves a run by more than most losses do."""

Results = Mapping[str, Sequence[Result]]
"""By variant, the results in the order of the seeds."""


@dataclass(frozen=True)
class Mean:
    """Mean of a metric over `count` finished seeds, and the deviation (n - 1) between them.

    The mean of nothing and the deviation of fewer than two are NaN.
    """

    value: float
    deviation: float
    count: int

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN for fewer than two seeds."""
        return self.deviation / math.sqrt(self.count) if self.count else math.nan


@dataclass(frozen=True)
class Verdict:
    """A claim, and by how much the better variant is better here, seed by seed."""

    claim: Claim
    difference: Mean

    @property
    def answer(self) -> str:
        """``yes`` or ``no``, and whether chance may explain it; or how few seeds there are."""
        if self.difference.count < ENOUGH_SEEDS:
            return seeds(self.difference.count)
        answer = "yes" if self.difference.value > 0 else "no"
        return answer if self.clear else f"{answer}, within two standard errors"

    @property
    def clear(self) -> bool:
        """Whether the difference is more than two standard errors."""
        one = self.difference
        return one.count >= ENOUGH_SEEDS and abs(one.value) > 2 * one.error


def seeds(count: int) -> str:
    """``not run``, ``1 seed``, ``2 seeds``."""
    return "not run" if not count else "1 seed" if count == 1 else f"{count} seeds"


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


def verdict(ablation: Ablation, claim: Claim, results: Results) -> Verdict:
    """Compare the two variants of a claim."""
    better, worse = ablation.named(claim.better), ablation.named(claim.worse)
    difference = against(
        results.get(worse.name, ()),
        results.get(better.name, ()),
        metric_name(worse, claim.worse_measure or claim.measure),
        metric_name(better, claim.measure),
        sign=-1.0 if claim.less else 1.0,
    )
    return Verdict(claim, difference)


def against(
    first: Sequence[Result], other: Sequence[Result], one: str, two: str, sign: float = 1.0
) -> Mean:
    """Return the paired difference: metric `two` of `other` less `one` of `first`, times `sign`."""
    pairs = zip(values(other, two), values(first, one), strict=False)
    return mean([sign * (b - a) for b, a in pairs])
