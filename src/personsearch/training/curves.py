"""Curves of a training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_training(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the losses of each stage and the validation metrics of a log over iterations (PNG)."""
    stages = list(dict.fromkeys(report["stage"] for report in log))
    validated = [report for report in log if report.get("validation")]
    count = max(1, len(stages) + bool(validated))
    chart = Figure(figsize=(4.6 * count, 3.4), layout="constrained")
    FigureCanvasAgg(chart)
    panels = chart.subplots(1, count, squeeze=False)[0]
    for stage, panel in zip(stages, panels, strict=False):
        _lines(panel, [report for report in log if report["stage"] == stage], "losses")
        panel.set(title=f"losses, stage {stage!r}", ylim=(0, None))
    if validated:
        _lines(panels[-1], validated, "validation", marker="o", markersize=3)
        panels[-1].set(title="validation", ylim=(0, 1))
    for panel in panels:
        panel.set(xlabel="iteration")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        # matplotlib warns about an empty legend.
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, fontsize=8)
    chart.savefig(path, dpi=110)


def _lines(panel: Any, reports: Sequence[Mapping[str, Any]], key: str, **style: Any) -> None:
    """Draw a line for each named value under `key`, over iterations."""
    for name in dict.fromkeys(name for report in reports for name in report[key]):
        points = [(r["iteration"], r[key][name]) for r in reports if name in r[key]]
        panel.plot(*zip(*points, strict=True), label=name, linewidth=1.2, **style)
