"""The reliability chart is drawn from a fitted calibration."""

from pathlib import Path

import numpy as np

from personsearch.plots.reliability import plot_reliability
from personsearch.search.calibration import fit_calibration
from personsearch.search.labelled_pairs import Pairs
from personsearch.store import ModelIdentity


def test_its_panels_name_what_they_show(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(40), 8)
    others = np.stack([ids, (ids + rng.integers(1, 39, len(ids))) % 40], axis=1)
    pairs = Pairs(
        rng.normal(0.65, 0.12, len(ids)).astype(np.float32),
        ids,
        rng.normal(0.25, 0.12, len(ids)).astype(np.float32),
        others,
    )
    calibration = fit_calibration(pairs, ModelIdentity("made", "a" * 64, 8))
    plot_reliability(calibration, tmp_path / "chart.svg")
    text = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    for name in ("predicted probability", "people searched", "320 and 320 pairs, 40 people"):
        assert f"<!-- {name} -->" in text
