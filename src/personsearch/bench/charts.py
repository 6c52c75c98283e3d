"""Charts of results: training curves, lines over protocols, lines over settings."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personsearch.bench.ablation import Ablation, Figure
from personsearch.bench.claims import Results, mean, metric_name, values
from personsearch.bench.runs import Result
from personsearch.plots.charts import new_chart, save_chart, tidy
from personsearch.plots.weighting import plot_weighting

_Point = tuple[float, float, float]  # x, per cent, deviation


def draw(ablation: Ablation, results: Results, folder: Path) -> list[Path]:
    """Draw the ablation's charts as PNG files; leave out those that have nothing to show."""
    drawn = []
    for number, wanted in enumerate(ablation.figure, start=1):
        suffix = f"-{number}" if len(ablation.figure) > 1 else ""
        path = folder / f"{ablation.name}{suffix}.png"
        if wanted.kind == "weighting":
            folder.mkdir(parents=True, exist_ok=True)
            plot_weighting(path)
            drawn.append(path)
        elif _panels(ablation, wanted, results, path):
            drawn.append(path)
    return drawn


def _panels(ablation: Ablation, wanted: Figure, results: Results, path: Path) -> bool:
    """Draw one chart; False without results."""
    count = 2 if wanted.kind == "training" else 1
    canvas = new_chart(4.8 * count, 3.6)
    panels = list(canvas.subplots(1, count, squeeze=False)[0])
    plot = {"training": _training, "columns": _columns, "variants": _variants}[wanted.kind]
    if not plot(ablation, wanted, results, panels):
        return False
    tidy(*panels)
    canvas.suptitle(wanted.title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_chart(canvas, path)
    return True


def _training(ablation: Ablation, wanted: Figure, results: Results, panels: list[Any]) -> bool:
    """Losses on the left, validation mAP on the right, over iterations; means over seeds."""
    panels[0].set(xlabel="iteration", ylabel="training loss")
    panels[1].set(xlabel="iteration", ylabel="validation mAP", ylim=(0, 1))
    for variant in ablation.shown:
        losses: dict[float, list[float]] = {}
        scores: dict[float, list[float]] = {}
        for result in results.get(variant.name, ()):
            for line in result.curves:
                if line["stage"] == result.curves[-1]["stage"]:
                    terms = line["losses"].items()
                    loss = sum(v for k, v in terms if not wanted.losses or k in wanted.losses)
                    losses.setdefault(line["iteration"], []).append(loss)
                if "mean_ap" in line.get("validation", {}):
                    score = line["validation"]["mean_ap"]
                    scores.setdefault(line["iteration"], []).append(score)
        for panel, curve in zip(panels, (losses, scores), strict=True):
            if curve:
                means = [sum(curve[x]) / len(curve[x]) for x in sorted(curve)]
                panel.plot(sorted(curve), means, label=variant.title, linewidth=1.3)
    return any(panel.lines for panel in panels)


def _columns(ablation: Ablation, wanted: Figure, results: Results, panels: list[Any]) -> bool:
    """A line for each variant, over metrics such as those of several gallery sizes."""
    lines = []
    for variant in ablation.shown:
        known = results.get(variant.name, ())
        points = [
            _point(x, known, metric_name(variant, measure))
            for x, measure in zip(wanted.positions, wanted.measures, strict=True)
        ]
        lines.append((variant.title, [one for one in points if one]))
    return _lines(panels[0], wanted, lines)


def _variants(ablation: Ablation, wanted: Figure, results: Results, panels: list[Any]) -> bool:
    """A line for each group of variants, over the setting in which they differ."""
    lines: dict[str, list[_Point]] = {}
    for variant in ablation.shown:
        known, measure = results.get(variant.name, ()), metric_name(variant, wanted.measure)
        if variant.x is not None and (point := _point(variant.x, known, measure)):
            for line in variant.line.split(","):
                lines.setdefault(line.strip(), []).append(point)
    return _lines(panels[0], wanted, [(name, sorted(points)) for name, points in lines.items()])


def _point(x: float, results: Sequence[Result], measure: str) -> _Point | None:
    one = mean(values(results, measure))
    spread = 0.0 if math.isnan(one.deviation) else 100 * one.deviation
    return (x, 100 * one.value, spread) if one.count else None


def _lines(panel: Any, wanted: Figure, lines: Sequence[tuple[str, list[_Point]]]) -> bool:
    """Draw the lines that have points, in order; False without any."""
    for label, points in lines:
        if points:
            x, y, bars = zip(*points, strict=True)
            panel.errorbar(
                x, y, yerr=bars, marker="o", markersize=3, capsize=2, label=label, lw=1.3
            )
    panel.set(xlabel=wanted.x_label, ylabel=wanted.y_label)
    return any(points for _, points in lines)
