"""Gradient weighting functions of Trident (Han et al. 2021, figure 3), from the loss itself."""

from collections.abc import Sequence
from pathlib import Path

import torch

from personsearch.losses.agwf import weighting_curves
from personsearch.plots.charts import new_chart, save_chart, tidy


def plot_weighting(
    path: Path,
    confidences: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    true_score: float = 0.5,
    temperature: float = 0.3,
) -> None:
    """Draw F_0(S_i, 1) and G_0(S_i, alpha_i, 1) over S_i0, of two classes, side by side.

    The curves are the gradient of `losses.agwf.identity_loss`, not its formula. The confidences are
    the values of alpha on the right (the paper does not name its four), the true score is S_i1, and
    the temperature is tau.
    """
    scores = torch.linspace(-1, 1, 201)
    chart = new_chart(8.4, 3.4)
    standard, adaptive = chart.subplots(1, 2, sharey=True)
    (curve,) = weighting_curves(scores, torch.ones(1), true_score, temperature)
    standard.plot(scores.numpy(), curve.numpy(), linewidth=1.4)
    standard.set(title="(a) standard, F₀(S, 1)", ylabel="weight of the gradient")
    curves = weighting_curves(scores, torch.tensor(confidences), true_score, temperature)
    for alpha, curve in zip(confidences, curves, strict=True):
        adaptive.plot(scores.numpy(), curve.numpy(), label=f"α = {alpha:g}", linewidth=1.4)
    adaptive.set(title="(b) adaptive, G₀(S, α, 1)")
    for panel in (standard, adaptive):
        panel.set(xlabel="S₀", xlim=(-1, 1), ylim=(0, 1.05 / temperature))
        panel.set_xticks([-1, -0.5, 0, 0.5, 1])
        panel.axvline(true_score, color="0.6", linewidth=0.8, linestyle=":")
    tidy(standard, adaptive)
    save_chart(chart, path)
