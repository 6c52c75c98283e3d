"""What runs over several seeds say: means, deviations, differences, and whether a claim holds.

Runs of the same seed draw the same pictures in the same order, so two variants are compared seed by
seed: the difference is the mean of the pairs' differences, its standard error their deviation over
the root of their number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from personsearch.bench.ablation import Ablation, Claim, Variant
from personsearch.bench.runs import Result

ENOUGH_SEEDS = 3
"""With fewer, nothing is said about a claim: chance moves a run by more than most losses do."""


@dataclass(frozen=True)
class Mean:
    """Of a figure over seeds.

    Attributes:
        value: the mean; NaN where no run is finished.
        deviation: between seeds, with n - 1; NaN for fewer than two.
        count: seeds that are finished.
    """

    value: float
    deviation: float
    count: int

    @property
    def error(self) -> float:
        """The standard error of the mean; NaN for fewer than two."""
        return self.deviation / math.sqrt(self.count) if self.count else math.nan


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: what the paper says.
        difference: by how much the better one is better here, seed by seed.
    """

    claim: Claim
    difference: Mean

    @property
    def answer(self) -> str:
        """``yes`` or ``no``, and whether chance may have said so; or how few seeds there are."""
        if self.difference.count < ENOUGH_SEEDS:
            return seeds(self.difference.count)
        said = "yes" if self.difference.value > 0 else "no"
        return said if self.clear else f"{said}, within two standard errors"

    @property
    def clear(self) -> bool:
        """Whether the difference is more than two standard errors."""
        return (
            self.difference.count >= ENOUGH_SEEDS
            and abs(self.difference.value) > 2 * self.difference.error
        )


Results = Mapping[str, Sequence[Result]]
"""By variant, the results of its seeds, in the order of the seeds."""


def seeds(count: int) -> str:
    """``not run``, ``1 seed``, ``2 seeds``."""
    return "not run" if not count else "1 seed" if count == 1 else f"{count} seeds"


def mean(values: Sequence[float]) -> Mean:
    """The mean and the deviation between values; those that are not numbers are left out."""
    known = [value for value in values if math.isfinite(value)]
    count = len(known)
    if not count:
        return Mean(math.nan, math.nan, 0)
    middle = sum(known) / count
    squares = sum((value - middle) ** 2 for value in known)
    return Mean(middle, math.sqrt(squares / (count - 1)) if count > 1 else math.nan, count)


def values(results: Sequence[Result], measure: str) -> list[float]:
    """A figure of each seed; NaN where it was not measured."""
    return [result.figures.get(measure, math.nan) for result in results]


def figure(variant: Variant, measure: str) -> str:
    """The figure that stands in a variant's cell of a column."""
    return variant.columns.get(measure, measure)


def verdict(ablation: Ablation, claim: Claim, results: Results) -> Verdict:
    """How a claim fares."""
    better, worse = ablation.named(claim.better), ablation.named(claim.worse)
    above = values(results.get(better.name, ()), figure(better, claim.measure))
    below = values(results.get(worse.name, ()), figure(worse, claim.worse_measure or claim.measure))
    sign = -1.0 if claim.less else 1.0
    return Verdict(claim, mean([sign * (a - b) for a, b in zip(above, below, strict=False)]))


def against(first: Sequence[Result], other: Sequence[Result], one: str, two: str) -> Mean:
    """`other` less `first`, seed by seed, of the figures `two` and `one`."""
    pairs = zip(values(other, two), values(first, one), strict=False)
    return mean([b - a for b, a in pairs])
