"""Curves of a training run and of an evaluation, as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike


def plot_training(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The losses of each stage and the validation figures, over iterations, as a PNG.

    Args:
        log: the reports of a run, as `training.loop.read_log` gives them.
        path: of the picture.
    """
    stages = list(dict.fromkeys(report["stage"] for report in log))
    validated = [report for report in log if report.get("validation")]
    count = max(1, len(stages) + bool(validated))
    figure = Figure(figsize=(4.6 * count, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, count, squeeze=False)[0]
    for stage, panel in zip(stages, panels, strict=False):
        reports = [report for report in log if report["stage"] == stage]
        for name in dict.fromkeys(n for report in reports for n in report["losses"]):
            points = [(r["iteration"], r["losses"][name]) for r in reports if name in r["losses"]]
            panel.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
        panel.set(title=f"losses, stage {stage!r}", xlabel="iteration", ylim=(0, None))
        _legend(panel)
    if validated:
        panel = panels[-1]
        for name in dict.fromkeys(n for report in validated for n in report["validation"]):
            points = [
                (r["iteration"], r["validation"][name])
                for r in validated
                if name in r["validation"]
            ]
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        panel.set(title="validation", xlabel="iteration", ylim=(0, 1))
        _legend(panel)
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def plot_precision_recall(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]], path: Path, title: str = "detection"
) -> None:
    """Precision over recall, a line a named curve of (recall, precision), as a PNG."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for name, (recall, precision) in curves.items():
        panel.plot(recall, precision, label=name, linewidth=1.4)
    panel.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    _legend(panel, loc="lower left")
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _legend(panel: Any, **where: str) -> None:
    # An empty one is worth a warning to matplotlib.
    if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False, fontsize=8, **where)
