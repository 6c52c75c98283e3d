"""Figure 3 of Trident is drawn from the loss's own gradient."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from personsearch.plots import weighting
from personsearch.plots.weighting import plot_weighting


def drawn(path: Path) -> Any:
    """The picture as (H, W, 3), once it is known to be a PNG."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_both_panels_show_the_curves_of_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    curves = weighting.weighting_curves

    def keep(*arguments: Any) -> Tensor:
        asked.append(arguments)
        return curves(*arguments)

    monkeypatch.setattr(weighting, "weighting_curves", keep)
    plot_weighting(tmp_path / "figure.png")
    # Plain cross-entropy is alpha = 1; then the four values of the figure.
    assert [a[1].tolist() for a in asked] == [[1.0], [0.25, 0.5, 0.75, 1.0]]
    assert all(a[2:] == (0.5, 0.3) for a in asked)
    assert all(torch.equal(a[0], torch.linspace(-1, 1, 201)) for a in asked)
    pixels = drawn(tmp_path / "figure.png")
    middle = pixels.shape[1] // 2
    blue, orange, green, red = (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40)
    for side, colours in (
        (pixels[:, :middle], (blue,)),
        (pixels[:, middle:], (blue, orange, green, red)),
    ):
        for colour in colours:
            assert (np.abs(side.reshape(-1, 3).astype(int) - colour).max(axis=1) < 40).any()


@pytest.mark.parametrize("confidences", [(), (0.0,), (0.1, 1.0)])
def test_any_number_of_confidences(tmp_path: Path, confidences: tuple[float, ...]) -> None:
    plot_weighting(tmp_path / "figure.png", confidences, true_score=0.2, temperature=1.0)
    assert drawn(tmp_path / "figure.png").shape[2] == 3
