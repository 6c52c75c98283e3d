"""A data set's figures as a picture: heights, boxes a picture, boxes and cameras an identity."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from personsearch.datasets.stats import SplitStatistics
from personsearch.errors import DataError


def plot_statistics(splits: Sequence[SplitStatistics], path: Path, title: str = "") -> None:
    """Four histograms, a colour a split, saved in the format that the ending of `path` names.

    Raises:
        DataError: no such folder, or an ending that stands for no picture format.
    """
    figure = Figure(figsize=(9.2, 6.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    kind = path.suffix.lower().lstrip(".")
    if kind not in canvas.get_supported_filetypes():
        raise DataError(f"{path}: cannot save a plot as {path.suffix!r}; use .png, .pdf or .svg")
    if not path.absolute().parent.is_dir():
        raise DataError(f"{path}: no such folder {path.parent}")
    panels = figure.subplots(2, 2).ravel()
    for panel, (name, label) in zip(
        panels,
        (
            ("heights", "box height in pixels"),
            ("per_image", "boxes a picture"),
            ("per_id", "boxes an identity"),
            ("cameras_per_id", "cameras an identity"),
        ),
        strict=True,
    ):
        values = {split.split: np.asarray(getattr(split, name), float) for split in splits}
        drawn = {split: v for split, v in values.items() if v.size}
        if drawn:
            top = max(float(v.max()) for v in drawn.values())
            whole = name != "heights" and top <= 40
            bins = np.arange(-0.5, top + 1.5) if whole else np.linspace(0, top, 41)
            for split, v in drawn.items():
                panel.hist(v, bins=bins, label=split, alpha=0.55)
            panel.legend(frameon=False, fontsize=8)
        else:
            panel.text(0.5, 0.5, "unknown", ha="center", va="center", transform=panel.transAxes)
        panel.set(xlabel=label, ylabel="count")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=110)
