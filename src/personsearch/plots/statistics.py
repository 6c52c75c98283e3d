"""Histograms of a data set: heights, boxes per picture, boxes and cameras per identity."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from personsearch.datasets.stats import SplitStatistics
from personsearch.plots.charts import new_chart, save_chart, tidy

_PANELS = {
    "heights": "box height in pixels",
    "per_image": "boxes per picture",
    "per_id": "boxes per identity",
    "cameras_per_id": "cameras per identity",
}


def plot_statistics(splits: Sequence[SplitStatistics], path: Path, title: str = "") -> None:
    """Draw four histograms with one colour per split; raise `DataError` if they cannot be saved."""
    chart = new_chart(9.2, 6.4)
    panels = chart.subplots(2, 2).ravel()
    for panel, (name, label) in zip(panels, _PANELS.items(), strict=True):
        values = {split.split: np.asarray(getattr(split, name), float) for split in splits}
        drawn = {split: v for split, v in values.items() if v.size}
        if drawn:
            top = max(float(v.max()) for v in drawn.values())
            whole = name != "heights" and top <= 40
            bins = np.arange(-0.5, top + 1.5) if whole else np.linspace(0, top, 41)
            for split, v in drawn.items():
                panel.hist(v, bins=bins, label=split, alpha=0.55)
        else:
            panel.text(0.5, 0.5, "unknown", ha="center", va="center", transform=panel.transAxes)
        panel.set(xlabel=label, ylabel="count")
        tidy(panel)
    if title:
        chart.suptitle(title)
    save_chart(chart, path)
