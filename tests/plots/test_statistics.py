from pathlib import Path

import numpy as np

from personsearch.datasets.stats import split_statistics
from personsearch.media.pictures import read_picture
from personsearch.plots.statistics import plot_statistics
from personsearch.types import Scene


def test_a_plot_shows_what_there_is(tmp_path: Path) -> None:
    box, ids = np.array([[0, 0, 5, 30]], np.float32), np.array([3])
    some = split_statistics("train", [Scene("a", Path("a"), (50, 50), box, ids, 1)])
    none = split_statistics("test", [])
    plot_statistics([some, none], tmp_path / "some.png", "mine")
    plot_statistics([none], tmp_path / "none.png")
    filled, empty = (read_picture(tmp_path / name) for name in ("some.png", "none.png"))
    assert filled.shape == empty.shape
    # Bars have a colour; a plot without them is grey throughout.
    assert np.ptp(filled.astype(int), axis=2).max() > 50
    assert np.ptp(empty.astype(int), axis=2).max() < 10
