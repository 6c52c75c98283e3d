from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from personsearch.bench import fingerprint
from personsearch.bench.data import Source
from personsearch.bench.estimate import LENGTHS, STARTING, TIMING, estimate, rates, stage_lengths
from personsearch.bench.files import write_json
from personsearch.bench.runs import RATE, SPEED, Run
from personsearch.recipes import find
from personsearch.training.catalogue import STAGES, SYSTEMS
from personsearch.training.recipe import read_recipe

HERE = Source(Path("here"), "aa")
VALUES: Mapping[str, Any] = {
    "system": "oim",
    "backbone": "small",
    "seed": 0,
    "init": "",
    "crop_iterations": 10,
    "iterations": 100,
    "images_per_iteration": 2,
    "accumulate": 1,
}
RUN = Run(VALUES, HERE, HERE)
RATES = {
    "seconds@crops": 2.0,
    "before@crops": 0.0,
    "seconds@scenes": 0.5,
    "before@scenes": 3.0,
    "seconds_per_picture": 0.25,
    "pictures": 8.0,
    "kept_bytes": 1000.0,
    "working_bytes": 5000.0,
}


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code for all systems."""
    monkeypatch.setattr(fingerprint, "of_code", lambda system: "code")


def finish(run: Run, folder: Path, figures: Mapping[str, float]) -> None:
    write_json(run.folder(folder) / "metrics.json", {"figures": figures, "checkpoint": "last"})


def test_every_stage_has_a_length() -> None:
    assert set(LENGTHS) == set(STAGES)
    for name in SYSTEMS.keys() - {"xiao2016-0.1"}:  # which is loaded, and has no recipe
        recipe = read_recipe(find(f"synthetic-ablation/{name}"))
        values = recipe.model_dump() | recipe.settings
        assert all(LENGTHS[stage] in values for stage in SYSTEMS[name].stages)
    assert stage_lengths(RUN) == {"crops": 10, "scenes": 100}
    assert stage_lengths(replace(RUN, values={**VALUES, "crop_iterations": 0})) == {"scenes": 100}


def test_one_rate_serves_the_runs_of_a_system_and_backbone() -> None:
    short = replace(RUN, values={**VALUES, "seed": 1, "crop_iterations": 0, "iterations": 700})
    deep = replace(RUN, values={**VALUES, "backbone": "resnet50"})
    timed = replace(RUN, kind=SPEED)
    by_run = rates([RUN, short, deep, timed])
    assert set(by_run) == {RUN.name, short.name, deep.name}
    one = by_run[RUN.name]
    assert by_run[short.name] is one
    assert by_run[deep.name] is not one
    assert (one.kind, one.values["iterations"], one.values["crop_iterations"]) == (RATE, 700, 10)


def test_the_cost_of_what_is_not_finished(tmp_path: Path) -> None:
    larger = replace(RUN, values={**VALUES, "images_per_iteration": 4, "crop_iterations": 0})
    after = replace(RUN, values={**VALUES, "seed": 1}, needs={"init": larger})
    timed = replace(RUN, kind=SPEED)
    runs = [RUN, after, timed]
    unknown = estimate(runs, tmp_path)
    assert (unknown.runs, unknown.unknown) == (4, {"oim": "not measured"})
    for rate in rates([RUN, larger, after]).values():
        finish(rate, tmp_path, RATES)
    cost = estimate(runs, tmp_path, jobs=2)
    assert cost.unknown == {}
    each = STARTING + 8 * 0.25 + 3.0
    assert cost.seconds == pytest.approx(
        (each + 20 + 50) + (each + 2 * 50) + (each + 20 + 50) + TIMING
    )
    assert cost.bytes == 3 * 1000 + 2 * 5000
    finish(RUN, tmp_path, {"mean_ap": 0.5})
    assert estimate(runs, tmp_path).runs == 3
