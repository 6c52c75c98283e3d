"""Results as tables: ours beside the paper's, the difference to the first row, and the claims.

Runs of the same seed draw the same pictures in the same order, so two variants are compared seed by
seed: the difference is the mean of the paired differences, its standard error their deviation over
the root of their number.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personsearch.bench.ablation import Ablation, Claim, Variant
from personsearch.bench.runs import Result
from personsearch.plots.tables import TextTable

ENOUGH_SEEDS = 3
"""A claim gets no verdict with fewer seeds: chance moves a run by more than most losses do."""

Results = Mapping[str, Sequence[Result]]  # by variant, in the order of the seeds

MISSING = "·"  # an empty cell: not printed by the paper, or not run


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


@dataclass(frozen=True)
class Verdict:
    """A claim, and by how much the better variant is better here, seed by seed."""

    claim: Claim
    difference: Mean

    @property
    def answer(self) -> str:
        """``yes`` or ``no``, and whether chance may explain it; or how few seeds there are."""
        count = self.difference.count
        if count < ENOUGH_SEEDS:
            return "not run" if not count else "1 seed" if count == 1 else f"{count} seeds"
        answer = "yes" if self.difference.value > 0 else "no"
        return answer if self.clear else f"{answer}, within two standard errors"

    @property
    def clear(self) -> bool:
        """Whether the difference is more than two standard errors."""
        one = self.difference
        return one.count >= ENOUGH_SEEDS and abs(one.value) > 2 * one.error


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
    first, other = results.get(worse.name, ()), results.get(better.name, ())
    one = metric_name(worse, claim.worse_measure or claim.measure)
    two = metric_name(better, claim.measure)
    return Verdict(claim, against(first, other, one, two, sign=-1.0 if claim.less else 1.0))


def against(
    first: Sequence[Result], other: Sequence[Result], one: str, two: str, sign: float = 1.0
) -> Mean:
    """Return the paired difference: metric `two` of `other` less `one` of `first`, times `sign`."""
    pairs = zip(values(other, two), values(first, one), strict=False)
    return mean([sign * (b - a) for b, a in pairs])


@dataclass(frozen=True)
class Section:
    """The report of one ablation."""

    ablation: Ablation
    table: TextTable  # a row for each variant
    claims: TextTable  # a row for each claim of the paper
    remarks: Sequence[str]  # failures, and findings that do not show here
    floor: float  # mAP of color alone, 0..1; NaN if not known


def section(ablation: Ablation, results: Results, floor: float = math.nan) -> Section:
    """Return the tables of an ablation, from the runs that are finished."""
    verdicts = [verdict(ablation, claim, results) for claim in ablation.claim]
    remarks = [
        f"{variant.title}, seed {seed}: {result.failure}"
        for variant in ablation.shown
        for seed, result in enumerate(results.get(variant.name, ()))
        if result.failure
    ]
    remarks += [
        f"{variant.title}: left out: {variant.left_out}"
        for variant in ablation.shown
        if variant.left_out
    ]
    if old := sum(result.other_code for ours in results.values() for result in ours):
        remarks.append(f"Runs that another version of the code made: {old}.")
    remarks += filter(None, map(_remark, verdicts))
    return Section(ablation, _rows(ablation, results), _claims(ablation, verdicts), remarks, floor)


def _rows(ablation: Ablation, results: Results) -> TextTable:
    base = ablation.shown[0] if ablation.shown else None
    printed = {measure for variant in ablation.shown for measure in variant.paper}
    header = ["variant"]
    for column in ablation.column:
        header.append(f"{column.title}, %" if column.unit == "percent" else column.title)
        header += ["to first row"] if column.difference else []
        header += ["paper"] if column.measure in printed else []
    rows = []
    for variant in ablation.shown:
        ours = results.get(variant.name, ())
        row = [variant.title]
        for column in ablation.column:
            percent, measure = column.unit == "percent", metric_name(variant, column.measure)
            row.append(with_deviation(mean(values(ours, measure)), percent))
            if column.difference and base is not None:
                first = metric_name(base, column.measure)
                difference = against(results.get(base.name, ()), ours, first, measure)
                row.append(MISSING if variant is base else with_error(difference, percent))
            if column.measure in printed:
                paper = variant.paper.get(column.measure)
                row.append(MISSING if paper is None else f"{paper:g}")
        done = sum(result.finished for result in ours)
        rows.append([*row, str(done) if done else "left out" if variant.left_out else "not run"])
    return TextTable(f"{ablation.name}: {ablation.title}", [*header, "seeds"], rows)


def _claims(ablation: Ablation, verdicts: Sequence[Verdict]) -> TextTable:
    units = {column.measure: column.unit for column in ablation.column}
    rows = []
    for one in verdicts:
        claim = one.claim
        a = ablation.named(claim.better).paper.get(claim.measure)
        b = ablation.named(claim.worse).paper.get(claim.worse_measure or claim.measure)
        paper = MISSING
        if a is not None and b is not None:
            paper = f"{b - a if claim.less else a - b:+.4g}"
        percent = units.get(claim.measure, "percent") == "percent"
        rows.append([claim.says, one.answer, with_error(one.difference, percent), paper])
    return TextTable("the paper's claims", ["claim", "here", "difference", "paper"], rows)


def _remark(one: Verdict) -> str:
    if one.difference.count < ENOUGH_SEEDS or one.answer == "yes":
        return ""
    why = "the opposite does" if one.clear else "the difference could be chance"
    return f'The paper\'s finding "{one.claim.says}" does not show on synthetic data: {why}.'


def with_deviation(here: Mean, percent: bool) -> str:
    """``32.6 ± 1.2``: the mean and the deviation between seeds."""
    return _with_spread(here, here.deviation, percent)


def with_error(difference: Mean, percent: bool) -> str:
    """``+2.1 ± 0.8``: the mean difference and its standard error."""
    return _with_spread(difference, difference.error, percent, "+")


def _with_spread(one: Mean, spread: float, percent: bool, sign: str = "") -> str:
    if not one.count:
        return MISSING
    factor = 100.0 if percent else 1.0
    text = number(factor * one.value, percent, sign)
    return f"{text} ± {number(factor * spread, percent)}" if one.count > 1 else text


def number(value: float, percent: bool, sign: str = "") -> str:
    """One decimal for per cents, three significant digits otherwise."""
    if percent:
        return f"{value:{sign}.1f}"
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.3g}"


def narrowed(table: TextTable, width: int) -> list[TextTable]:
    """Split a table into several of at most `width` characters, each with the first column."""
    # A column's border takes three characters.
    wide = [max(map(len, cells)) + 3 for cells in zip(table.header, *table.rows, strict=True)]
    groups: list[list[int]] = [[]]
    for column in range(1, len(wide)):
        if groups[-1] and 1 + wide[0] + sum(wide[k] for k in [*groups[-1], column]) > width:
            groups.append([])
        groups[-1].append(column)
    return [
        TextTable(
            table.title if number == 0 else "",
            [table.header[k] for k in (0, *group)],
            [[row[k] for k in (0, *group)] for row in table.rows],
        )
        for number, group in enumerate(groups)
    ]


def markdown(table: TextTable) -> str:
    """Return the table in Markdown, the first column left, the others right."""
    header, *rows = [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in (table.header, *table.rows)
    ]
    return "\n".join([header, "| --- |" + " ---: |" * (len(table.header) - 1), *rows])


def as_json(ablation: Ablation, results: Results, floor: float) -> dict[str, Any]:
    """Return the metrics by variant and measure, and the claims, as plain values."""
    variants: dict[str, Any] = {}
    for variant in ablation.shown:
        ours = results.get(variant.name, ())
        variants[variant.name] = {
            "label": variant.title,
            "seeds": sum(result.finished for result in ours),
            "failures": [result.failure for result in ours if result.failure],
            "paper": dict(variant.paper),
            "figures": {
                column.measure: _plain(mean(values(ours, metric_name(variant, column.measure))))
                for column in ablation.column
            },
        }
    claims = [
        {"says": v.claim.says, "here": v.answer, "clear": v.clear, **_plain(v.difference)}
        for v in (verdict(ablation, claim, results) for claim in ablation.claim)
    ]
    return ablation.model_dump(include={"name", "title", "paper", "here"}) | {
        "hsv_floor": None if math.isnan(floor) else floor,
        "variants": variants,
        "claims": claims,
    }


def _plain(one: Mean) -> dict[str, float | int | None]:
    value, deviation = (x if math.isfinite(x) else None for x in (one.value, one.deviation))
    return {"mean": value, "deviation": deviation, "count": one.count}


def replacements(ablation: Ablation) -> str:
    """Say which values stand for the paper's, one line each."""
    return "\n".join(["Synthetic values:\n", *(f"- {line}" for line in ablation.here)])


def document(one: Section, level: int = 2, pictures: Sequence[str] = ()) -> str:
    """Return a section of a Markdown document; `pictures` are links to files."""
    ablation = one.ablation
    done = any(row[-1] not in ("not run", "left out") for row in one.table.rows)
    parts = [
        f"{'#' * level} {ablation.name}: {ablation.title}",
        f"Paper: {ablation.paper}." if ablation.paper else "",
        ablation.note,
    ]
    if ablation.here:
        parts.append(replacements(ablation))
    if done:
        parts += [markdown(one.table), markdown(one.claims) if one.claims.rows else ""]
        if not math.isnan(one.floor):
            parts.append(f"Colour alone on true boxes: mAP {100 * one.floor:.1f} %.")
    elif one.table.rows:
        parts.append("Not run.")
    parts.append("\n".join(f"- {remark}" for remark in one.remarks))
    parts += [f"![{ablation.title}]({picture})" for picture in pictures]
    return "\n\n".join(filter(None, parts)) + "\n"
