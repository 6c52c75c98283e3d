"""Curves are drawn from any log, also a short or an odd one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from personsearch.training.curves import plot_training


def report(stage: str, iteration: int, validation: dict[str, float] | None = None) -> Any:
    line = {"stage": stage, "iteration": iteration, "losses": {"oim": 3.0 / iteration, "box": 0.2}}
    return line | ({"validation": validation} if validation else {})


def drawn(path: Path) -> Any:
    """The picture as (H, W, 3), once it is known to be a PNG that shows something."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels != 255).any()
    return pixels


def test_there_is_a_panel_a_stage_and_one_for_the_validation(tmp_path: Path) -> None:
    crops = [report("crops", i) for i in (10, 20)]
    scenes = [report("scenes", i) for i in (10, 20)]
    validated = [report("scenes", i, {"mean_ap": 0.1 * i / 10}) for i in (10, 20)]
    widths = []
    for number, log in enumerate((crops, crops + scenes, crops + validated)):
        plot_training(log, tmp_path / f"{number}.png")
        widths.append(drawn(tmp_path / f"{number}.png").shape[1])
    assert widths == [widths[0], 2 * widths[0], 3 * widths[0]]


def test_every_loss_has_its_own_colour(tmp_path: Path) -> None:
    plot_training([report("scenes", i) for i in (1, 2, 3)], tmp_path / "two.png")
    pixels = drawn(tmp_path / "two.png").reshape(-1, 3)
    for colour in ((31, 119, 180), (255, 127, 14)):
        # Lines are thin, so that their edges blend with what is below.
        assert (np.abs(pixels.astype(int) - colour).max(axis=1) < 40).any()


@pytest.mark.parametrize(
    "log",
    [
        [],
        [report("scenes", 1)],
        [report("scenes", 1, {"mean_ap": 0.0})],
        [{"stage": "scenes", "iteration": 1, "losses": {}}],
        [report("scenes", 1), {"stage": "scenes", "iteration": 2, "losses": {"late": 0.0}}],
    ],
)
def test_a_short_or_odd_log_is_drawn_without_a_warning(tmp_path: Path, log: list[Any]) -> None:
    plot_training(log, tmp_path / "short.png")
    drawn(tmp_path / "short.png")
