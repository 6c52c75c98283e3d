"""Charts of results: training curves, lines over protocols, lines over settings."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from personsearch.bench.ablation import Ablation, Figure
from personsearch.bench.runs import Result
from personsearch.bench.summary import Results, mean, metric_name, values
from personsearch.plots.weighting import plot_weighting


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
    canvas = Canvas(figsize=(4.8 * count, 3.6), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = list(canvas.subplots(1, count, squeeze=False)[0])
    plot = {"training": _training, "columns": _columns, "variants": _variants}[wanted.kind]
    if not plot(ablation, wanted, results, panels):
        return False
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, fontsize=8)
    canvas.suptitle(wanted.title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=110)
    return True


def _training(ablation: Ablation, wanted: Figure, results: Results, panels: list[Any]) -> bool:
    """Losses on the left, validation mAP on the right, over iterations; means over seeds."""
    some = False
    for variant in ablation.shown:
        finished = [result for result in results.get(variant.name, ()) if result.curves]
        if not finished:
            continue
        label = variant.label or variant.name
        losses = [_losses(result, wanted.losses) for result in finished]
        scores = [_validated(result) for result in finished]
        for panel, curves in zip(panels, (losses, scores), strict=True):
            if curve := _mean_curve(curves):
                panel.plot(*zip(*curve, strict=True), label=label, linewidth=1.3)
                some = True
    panels[0].set(xlabel="iteration", ylabel="training loss")
    panels[1].set(xlabel="iteration", ylabel="validation mAP", ylim=(0, 1))
    return some


def _losses(result: Result, names: Sequence[str]) -> list[tuple[float, float]]:
    stage = result.curves[-1]["stage"]
    return [
        (
            line["iteration"],
            sum(value for name, value in line["losses"].items() if not names or name in names),
        )
        for line in result.curves
        if line["stage"] == stage
    ]


def _validated(result: Result) -> list[tuple[float, float]]:
    return [
        (line["iteration"], line["validation"]["mean_ap"])
        for line in result.curves
        if "mean_ap" in line.get("validation", {})
    ]


def _mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    by_x: dict[float, list[float]] = {}
    for curve in curves:
        for x, y in curve:
            by_x.setdefault(x, []).append(y)
    return [(x, sum(ys) / len(ys)) for x, ys in sorted(by_x.items())]


def _columns(ablation: Ablation, wanted: Figure, results: Results, panels: list[Any]) -> bool:
    """A line for each variant, over metrics such as those of several gallery sizes."""
    some = False
    for variant in ablation.shown:
        means = [
            mean(values(results.get(variant.name, ()), metric_name(variant, measure)))
            for measure in wanted.measures
        ]
        points = [
            (x, 100 * one.value, 0.0 if math.isnan(one.deviation) else 100 * one.deviation)
            for x, one in zip(wanted.ticks, means, strict=True)
            if one.count
        ]
        some |= _line(panels[0], points, variant.label or variant.name)
    panels[0].set(xlabel=wanted.x_label, ylabel=wanted.y_label)
    return some


def _variants(ablation: Ablation, wanted: Figure, results: Results, panels: list[Any]) -> bool:
    """A line for each group of variants, over the setting in which they differ."""
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for variant in ablation.shown:
        one = mean(values(results.get(variant.name, ()), metric_name(variant, wanted.measure)))
        if one.count and variant.x is not None:
            deviation = 0.0 if math.isnan(one.deviation) else one.deviation
            for line in variant.line.split(","):
                point = (variant.x, 100 * one.value, 100 * deviation)
                lines.setdefault(line.strip(), []).append(point)
    for name, points in lines.items():
        _line(panels[0], sorted(points), name)
    panels[0].set(xlabel=wanted.x_label, ylabel=wanted.y_label)
    return bool(lines)


def _line(panel: Any, points: Sequence[tuple[float, float, float]], label: str) -> bool:
    if not points:
        return False
    x, y, spread = zip(*points, strict=True)
    panel.errorbar(x, y, yerr=spread, marker="o", markersize=3, capsize=2, label=label, lw=1.3)
    return True
