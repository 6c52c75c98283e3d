"""Results as tables: ours beside the paper's, the difference to the first row, and the claims."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from personsearch.bench.ablation import Ablation
from personsearch.bench.summary import (
    ENOUGH_SEEDS,
    Mean,
    Results,
    Verdict,
    against,
    mean,
    metric_name,
    values,
    verdict,
)
from personsearch.plots.tables import TextTable

MISSING = "·"
"""An empty cell: not printed by the paper, or not run."""


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
        rows.append([*row, str(done) if done else "not run"])
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
    cells = [table.header, *table.rows]
    border = 3
    wide = [max(len(row[k]) for row in cells) + border for k in range(len(table.header))]
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
    return {
        "name": ablation.name,
        "title": ablation.title,
        "paper": ablation.paper,
        "hsv_floor": None if math.isnan(floor) else floor,
        "variants": variants,
        "claims": claims,
    }


def _plain(one: Mean) -> dict[str, float | int | None]:
    value, deviation = (x if math.isfinite(x) else None for x in (one.value, one.deviation))
    return {"mean": value, "deviation": deviation, "count": one.count}


def document(one: Section, level: int = 2, pictures: Sequence[str] = ()) -> str:
    """Return a section of a Markdown document; `pictures` are links to files."""
    ablation = one.ablation
    parts = [f"{'#' * level} {ablation.name}: {ablation.title}"]
    if ablation.paper:
        parts.append(f"Paper: {ablation.paper}.")
    if ablation.note:
        parts.append(ablation.note)
    done = any(row[-1] != "not run" for row in one.table.rows)
    if done:
        parts.append(markdown(one.table))
        if one.claims.rows:
            parts.append(markdown(one.claims))
    elif one.table.rows:
        parts.append("Not run.")
    if not math.isnan(one.floor) and done:
        parts.append(f"Colour alone on true boxes: mAP {100 * one.floor:.1f} %.")
    if one.remarks:
        parts.append("\n".join(f"- {remark}" for remark in one.remarks))
    parts += [f"![{ablation.title}]({picture})" for picture in pictures]
    return "\n\n".join(parts) + "\n"
