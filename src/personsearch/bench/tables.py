"""Results as tables: ours beside the paper's, the difference to the first row, and the claims.

``±`` after a metric is the deviation between seeds; after a difference, the mean of the paired
differences between runs of the same seeds, it is half the 95 % t interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from personsearch.bench.ablation import Ablation, Claim, Column
from personsearch.bench.claims import (
    Mean,
    Results,
    Verdict,
    against,
    corrected,
    mean,
    metric_name,
    values,
    verdict,
)
from personsearch.plots.tables import TextTable

MISSING = "·"  # an empty cell: not printed by the paper, or not run
ABOVE_COLOR = 0.1
"""By how much mAP has to be above that of color alone before losses can be compared."""
WEIGHTINGS = {"plain": "plain, %", "weighted": "x score, %"}
"""The columns of both ways to rank detections: by similarity, and multiplied by their scores."""


@dataclass(frozen=True)
class Section:
    """The report of one ablation: the results of its variants, or the problem with it."""

    ablation: Ablation
    results: Results
    verdicts: Sequence[Verdict]  # one for each claim
    family: int  # claims that were tested in the whole report
    floor: float  # mAP of color alone, 0..1; NaN if not known
    problem: str = ""  # why it cannot be planned

    @property
    def done(self) -> bool:
        """Whether any run is finished."""
        return any(result.finished for ours in self.results.values() for result in ours)


def sections(known: Sequence[tuple[Ablation, Results, float]]) -> list[Section]:
    """Return the sections of one report, whose claims are one family of tests."""
    verdicts = corrected([verdict(a, claim, r) for a, r, _ in known for claim in a.claim])
    family = sum(one.tested for one in verdicts)
    made = []
    for ablation, results, floor in known:
        own, verdicts = verdicts[: len(ablation.claim)], verdicts[len(ablation.claim) :]
        made.append(Section(ablation, results, own, family, floor))
    return made


def rows(one: Section) -> TextTable:
    """Return a row for each variant."""
    shown, base = one.ablation.shown, next(iter(one.ablation.shown), None)
    printed = {measure for variant in shown for measure in variant.paper}
    weighed = _weighed(one)
    header = ["variant"]
    for column in one.ablation.column:
        header.append(f"{column.title}, %" if column.unit == "percent" else column.title)
        header += WEIGHTINGS.values() if column is weighed else []
        header += ["to first row"] if column.difference else []
        header += ["paper"] if column.measure in printed else []
    table = []
    for variant in shown:
        ours = one.results.get(variant.name, ())
        row = [variant.title]
        for column in one.ablation.column:
            percent, measure = column.unit == "percent", metric_name(variant, column.measure)
            row.append(with_deviation(mean(values(ours, measure)), percent))
            if column is weighed:
                both = [mean(values(ours, f"{measure}@{how}")) for how in WEIGHTINGS]
                row += [with_deviation(each, percent) for each in both]
            if column.difference and base is not None:
                first = metric_name(base, column.measure)
                difference = against(one.results.get(base.name, ()), ours, first, measure)
                row.append(MISSING if variant is base else with_margin(difference, percent))
            if column.measure in printed:
                paper = variant.paper.get(column.measure)
                row.append(MISSING if paper is None else f"{paper:g}")
        done = sum(result.finished for result in ours)
        table.append([*row, str(done or ("left out" if variant.left_out else "not run"))])
    return TextTable(f"{one.ablation.name}: {one.ablation.title}", [*header, "seeds"], table)


def _weighed(one: Section) -> Column | None:
    """The first mAP that was measured with both weightings, from the same detections."""
    measured = {name for ours in one.results.values() for r in ours for name in r.metrics}
    for column in one.ablation.column:
        both = {f"{column.measure}@{how}" for how in WEIGHTINGS}
        if column.measure.startswith("mean_ap") and both <= measured:
            listed = both & {other.measure for other in one.ablation.column}
            return None if listed else column
    return None


def claims(one: Section) -> TextTable:
    """Return a row for each claim of the paper."""
    units = {column.measure: column.unit for column in one.ablation.column}
    table = []
    for tested in one.verdicts:
        claim, difference = tested.claim, tested.difference
        percent = units.get(claim.measure, "percent") == "percent"
        a = one.ablation.named(claim.better).paper.get(claim.measure)
        b = one.ablation.named(claim.worse).paper.get(claim.worse_measure or claim.measure)
        paper = MISSING
        if a is not None and b is not None:
            paper = f"{b - a if claim.less else a - b:+.4g}"
        p = MISSING if math.isnan(difference.p) else f"{difference.p:.3f}"
        table.append([claim.says, tested.answer, with_margin(difference, percent), p, paper])
    return TextTable("the paper's claims", ["claim", "here", "difference", "p", "paper"], table)


def remarks(one: Section) -> list[str]:
    """Return the lines below the tables."""
    shown, lines = one.ablation.shown, []
    if not math.isnan(one.floor):
        lines.append(f"Colour alone on true boxes: mAP {100 * one.floor:.1f} %.")
        if low := [v.title for v in shown if _near_color(one, v.name)]:
            lines.append(
                f"Less than {100 * ABOVE_COLOR:.0f} points above colour there, too little to "
                f"compare: {'; '.join(low)}."
            )
    thresholds = {
        result.metrics["score_threshold"]
        for ours in one.results.values()
        for result in ours
        if "score_threshold" in result.metrics
    }
    if thresholds:
        listed = ", ".join(f"{threshold:g}" for threshold in sorted(thresholds))
        lines.append(f"Detections with a score of at least {listed} are searched.")
    if any(each.tested for each in one.verdicts):
        lines.append(
            "Claims: 95 % t intervals of paired differences. Claims tested in the whole report: "
            f"{one.family}; 'uncorrected' marks those that do not survive Holm's correction."
        )
    lines += [
        f"Opposite: {each.claim.says}. {_cause(one.ablation, each.claim)}"
        for each in one.verdicts
        if each.opposite and not each.claim.reversed_on
    ]
    lines += [f"{v.title}: left out: {v.left_out}" for v in shown if v.left_out]
    lines += [
        f"{variant.title}, seed {seed}: {result.failure}"
        for variant in shown
        for seed, result in enumerate(one.results.get(variant.name, ()))
        if result.failure
    ]
    if old := sum(result.other_code for ours in one.results.values() for result in ours):
        lines.append(f"Runs that another version of the code made: {old}.")
    return lines


def _near_color(one: Section, variant: str) -> bool:
    ours = one.results.get(variant, ())
    # On true boxes, as colour is; detections would mix in the detector.
    truth, found = (mean(values(ours, name)) for name in ("mean_ap@truth", "mean_ap"))
    here = truth if truth.count else found
    return here.count > 0 and here.value < one.floor + ABOVE_COLOR


def _cause(ablation: Ablation, claim: Claim) -> str:
    if claim.cause is None:
        return "No cause was tested."
    rows = "; ".join(ablation.named(name).title for name in claim.cause.rows)
    return f"Cause: {claim.cause.says} Rows that test it: {rows}."


def with_deviation(here: Mean, percent: bool) -> str:
    """``32.6 ± 1.2``: the mean and the deviation between seeds."""
    return _with_spread(here, here.deviation, percent)


def with_margin(difference: Mean, percent: bool) -> str:
    """``+2.1 ± 0.8``: the mean difference and half its 95 % interval."""
    return _with_spread(difference, difference.margin, percent, "+")


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


def as_json(one: Section) -> dict[str, Any]:
    """Return the metrics by variant and measure, and the claims, as plain values."""
    variants: dict[str, Any] = {}
    for variant in one.ablation.shown:
        ours = one.results.get(variant.name, ())
        variants[variant.name] = {
            "label": variant.title,
            "control": variant.control,
            "seeds": sum(result.finished for result in ours),
            "failures": [result.failure for result in ours if result.failure],
            "left_out": variant.left_out,
            "paper": dict(variant.paper),
            "figures": {
                column.measure: _plain(mean(values(ours, metric_name(variant, column.measure))))
                for column in one.ablation.column
            },
        }
    verdicts = [
        {
            "says": each.claim.says,
            "here": each.answer,
            "resolved": each.resolved,
            "corrected": each.corrected,
            **_plain(each.difference),
            "margin": _finite(each.difference.margin),
            "p": _finite(each.difference.p),
        }
        for each in one.verdicts
    ]
    return one.ablation.model_dump(include={"name", "title", "paper", "here"}) | {
        "hsv_floor": _finite(one.floor),
        "variants": variants,
        "claims": verdicts,
        "claims_tested": one.family,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(one: Mean) -> dict[str, float | int | None]:
    return {"mean": _finite(one.value), "deviation": _finite(one.deviation), "count": one.count}


def document(one: Section, level: int = 2, pictures: Sequence[str] = ()) -> str:
    """Return a section of a Markdown document; `pictures` are links to files."""
    ablation = one.ablation
    parts = [
        f"{'#' * level} {ablation.name}: {ablation.title}",
        f"Paper: {ablation.paper}." if ablation.paper else "",
        ablation.note,
    ]
    if one.problem:
        parts.append(f"Not run: {one.problem}")
    else:
        if ablation.here:
            parts.append(_listed([f"Synthetic: {line}" for line in ablation.here]))
        if one.done:
            parts += [markdown(rows(one)), markdown(claims(one)) if one.verdicts else ""]
        elif ablation.shown:
            parts.append("Not run.")
        parts.append(_listed(remarks(one)))
    parts += [f"![{ablation.title}]({picture})" for picture in pictures]
    return "\n\n".join(filter(None, parts)) + "\n"


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
