"""Charts are saved the same each time, and wrong names are refused."""

from pathlib import Path

import pytest

from personsearch.errors import DataError
from personsearch.plots.charts import new_chart, save_chart, tidy


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_equal_charts_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        chart = new_chart(3, 2)
        panel = chart.subplots()
        panel.plot([0, 1], [1, 0], label="line")
        tidy(panel)
        assert panel.get_legend() is not None
        save_chart(chart, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_wrong_paths_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot save a chart as '\.xyz'; use \.png"):
        save_chart(new_chart(1, 1), tmp_path / "a.xyz")
    with pytest.raises(DataError, match="there is no folder"):
        save_chart(new_chart(1, 1), tmp_path / "absent" / "a.png")
