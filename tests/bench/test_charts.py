from pathlib import Path
from typing import Any

import cv2
import pytest

from personsearch.bench.ablation import Ablation, Figure, Variant
from personsearch.bench.charts import draw
from personsearch.bench.runs import Result

VARIANTS = (
    Variant(name="a", label="one", x=0.5, line="weights; others"),
    Variant(name="b", label="two", x=1.0, line="weights"),
    Variant(name="c", label="three", x=1.0, line="others"),
)


def ablation(*figures: Figure) -> Ablation:
    return Ablation(name="shown", title="t", recipe="oim", variant=VARIANTS, figure=figures)


def result(value: float) -> Result:
    curves: tuple[dict[str, Any], ...] = (
        {"stage": "crops", "iteration": 1, "losses": {"softmax": 4.0}},
        {"stage": "scenes", "iteration": 1, "losses": {"oim": 3.0, "box": 1.0}},
        {
            "stage": "scenes",
            "iteration": 2,
            "losses": {"oim": 2.0, "box": 1.0},
            "validation": {"mean_ap": value},
        },
    )
    return Result({"mean_ap@gallery-5": value, "mean_ap": value / 2}, curves)


KNOWN = {"a": [result(0.5), result(0.6)], "b": [result(0.4)], "c": []}
TRAINING = Figure(kind="training", title="curves")
COLUMNS = Figure(
    kind="columns",
    title="galleries",
    measures=("mean_ap@gallery-5", "mean_ap", "mean_ap@gallery-9"),
    ticks=(5.0, 7.0, 9.0),
)
LINES = Figure(kind="variants", title="weights", measure="mean_ap")


@pytest.mark.parametrize("figure", [TRAINING, COLUMNS, LINES])
def test_a_figure_is_a_picture(figure: Figure, tmp_path: Path) -> None:
    (path,) = draw(ablation(figure), KNOWN, tmp_path / "figures")
    picture = cv2.imread(str(path))
    assert path.name == "shown.png"
    assert picture.shape[0] > 300
    assert len({tuple(color) for color in picture.reshape(-1, 3)[::7].tolist()}) > 10


def test_several_figures_are_numbered_and_empty_ones_left_out(tmp_path: Path) -> None:
    drawn = draw(ablation(TRAINING, COLUMNS), KNOWN, tmp_path)
    assert [path.name for path in drawn] == ["shown-1.png", "shown-2.png"]
    assert draw(ablation(TRAINING, COLUMNS, LINES), {}, tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_the_weighting_needs_no_run(tmp_path: Path) -> None:
    weighting = Figure(kind="weighting", title="G")
    assert len(draw(ablation(weighting), {}, tmp_path)) == 1
