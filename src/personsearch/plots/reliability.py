"""A chart of how reliable the probabilities of a calibration are."""

from pathlib import Path

import numpy as np

from personsearch.plots.charts import new_chart, save_chart, tidy
from personsearch.search.calibration import Calibration


def plot_reliability(calibration: Calibration, path: Path) -> None:
    """Draw the reliability diagram, probability over similarity, and the histograms of pairs."""
    chart = new_chart(13.0, 3.8)
    left, middle, right = chart.subplots(1, 3)
    bins = calibration.bins
    left.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    predicted, found = [b.predicted for b in bins], [b.found for b in bins]
    left.plot(predicted, found, color="tab:blue", linewidth=1)
    left.scatter(predicted, found, [20 + 400 * b.weight for b in bins], alpha=0.7)
    left.set(
        title=f"held-out people, even odds; error {calibration.errors[1]:.3f}",
        xlabel="predicted probability",
        ylabel="share of the same person",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    similarity = np.linspace(-1, 1, 801)
    for crowd in (1, 10, 100, 1000, 10_000):
        probability = calibration.probability(similarity, crowd)
        middle.plot(similarity, probability, label=f"{crowd:,}", linewidth=1.4)
    middle.legend(title="people searched", fontsize=8)
    middle.set(
        title=f"map: {calibration.method}", xlabel="similarity", ylabel="probability", ylim=(0, 1)
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
    tidy(left, middle, right)
    low = knots[np.argmax(calibration.false_rates < 0.999)]
    middle.set_xlim(low, 1)
    right.set_xlim(low, 1)
    save_chart(chart, path)
