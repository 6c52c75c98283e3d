"""How reliable the chances of a calibration are, as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from personsearch.search.calibration import Calibration


def plot_reliability(calibration: Calibration, path: Path) -> None:
    """Predicted and found chances, chance over similarity by crowd, and the pairs.

    Args:
        calibration: that is shown.
        path: of the picture, a .png or .svg.
    """
    figure = Figure(figsize=(13.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    bins = calibration.bins
    left.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    left.plot([b.predicted for b in bins], [b.found for b in bins], color="tab:blue", linewidth=1)
    sizes = [20 + 400 * b.weight for b in bins]
    left.scatter([b.predicted for b in bins], [b.found for b in bins], sizes, alpha=0.7)
    left.set(
        title=f"held-out people, even odds; error {calibration.errors[1]:.3f}",
        xlabel="chance as predicted",
        ylabel="share of the same person",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    similarity = np.linspace(-1, 1, 801)
    for crowd in (1, 10, 100, 1000, 10_000):
        chance = calibration.probability(similarity, crowd)
        middle.plot(similarity, chance, label=f"{crowd:,}", linewidth=1.4)
    middle.legend(title="people searched", fontsize=8)
    middle.set(
        title=f"map: {calibration.method}", xlabel="similarity", ylabel="chance", ylim=(0, 1)
    )
    knots = np.linspace(-1, 1, 201)
    for name, rates in (("two people", calibration.false_rates), ("one", calibration.true_rates)):
        shares = -np.diff(rates, append=0.0)
        right.fill_between(knots, shares, step="post", alpha=0.5, label=name)
    right.legend(title="pairs of", fontsize=8)
    counts = calibration.counts
    right.set(
        title=f"{counts['same']} and {counts['other']} pairs, {counts['identities']} people",
        xlabel="similarity",
        ylabel="share",
        ylim=(0, None),
    )
    for panel in (left, middle, right):
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    low = knots[np.argmax(calibration.false_rates < 0.999)]
    middle.set_xlim(low, 1)
    right.set_xlim(low, 1)
    figure.savefig(path, dpi=110)
