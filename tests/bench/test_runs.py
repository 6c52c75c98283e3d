from dataclasses import replace
from pathlib import Path

import pytest

from personsearch.bench import fingerprint
from personsearch.bench.data import Source
from personsearch.bench.files import write_json
from personsearch.bench.runs import SPEED, Run, checkpoint, found, result
from personsearch.errors import DataError

VALUES = {"system": "oim", "seed": 3, "lr": 0.1, "roi_size": [14, 7]}
HERE, THERE = Source(Path("here"), "aa"), Source(Path("there"), "bb")
RUN = Run(VALUES, HERE, HERE)


def test_the_name_says_system_and_seed() -> None:
    assert RUN.name.startswith("oim-seed3-")
    assert RUN.values["seed"] == 3
    assert RUN.folder(Path("runs")) == Path("runs") / RUN.name


@pytest.mark.parametrize(
    "other",
    [
        replace(RUN, values=VALUES | {"lr": 0.2}),
        replace(RUN, values=VALUES | {"seed": 4}),
        replace(RUN, data=THERE),
        replace(RUN, test=THERE),
        replace(RUN, kind=SPEED),
        replace(RUN, extra=("without-detection",)),
        replace(RUN, needs={"init": RUN}),
        replace(RUN, sources={"more": (THERE,)}),
    ],
)
def test_whatever_it_depends_on_is_in_its_name(other: Run) -> None:
    assert other.name != RUN.name


def test_the_place_of_a_data_set_is_not() -> None:
    elsewhere = Source(Path("elsewhere"), "aa")
    assert Run(VALUES, elsewhere, elsewhere).name == RUN.name
    assert Run(VALUES | {"roi_size": (14, 7)}, HERE, HERE).name == RUN.name


def test_the_code_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "of_code", lambda system: "edited")
    assert Run(VALUES, HERE, HERE).name != RUN.name


def test_results_of_other_code_count_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = {"figures": {"mean_ap": 0.5}, "checkpoint": "best"}
    write_json(RUN.folder(tmp_path) / "metrics.json", metrics)
    assert not found(RUN, tmp_path, any_code=True).other_code
    monkeypatch.setattr(fingerprint, "of_code", lambda system: "edited")
    edited = Run(VALUES, HERE, HERE)
    assert edited.task == RUN.task
    assert not found(edited, tmp_path).finished
    known = found(edited, tmp_path, any_code=True)
    assert (known.metrics, known.other_code) == ({"mean_ap": 0.5}, True)
    assert not found(replace(edited, test=THERE), tmp_path, any_code=True).finished


def test_the_code_of_a_run_it_starts_from_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    later = Run(VALUES, HERE, HERE, needs={"init": Run(VALUES | {"system": "other"}, HERE, HERE)})
    monkeypatch.setattr(fingerprint, "of_code", lambda system: f"{system} 1")
    before = later.code
    monkeypatch.setattr(fingerprint, "of_code", lambda system: f"{system} {system == 'other'}")
    again = replace(later, needs={"init": replace(later.needs["init"])})
    assert again.code != before
    assert again.task == later.task


def test_a_folder_says_what_became_of_the_run(tmp_path: Path) -> None:
    assert not result(tmp_path).finished
    with pytest.raises(DataError, match="is not a finished run"):
        checkpoint(tmp_path)
    write_json(tmp_path / "failure.json", {"error": "it broke"})
    assert result(tmp_path).failure == "it broke"
    metrics = {"figures": {"mean_ap": 0.5}, "curves": [{"stage": "scenes"}], "checkpoint": "best"}
    write_json(tmp_path / "metrics.json", metrics)
    known = result(tmp_path)
    assert (known.finished, known.failure) == (True, "")
    assert known.metrics == {"mean_ap": 0.5}
    assert known.curves == ({"stage": "scenes"},)
    (tmp_path / "best").mkdir()
    assert checkpoint(tmp_path) == tmp_path / "best"


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        "{}",
        '{"figures": {}, "checkpoint": "best"}',
        '{"figures": {"mean_ap": "x"}, "checkpoint": "best"}',
        '{"figures": {"mean_ap": 0.5}, "checkpoint": 3}',
        '{"figures": [0.5], "checkpoint": "best"}',
    ],
)
def test_damaged_results_are_no_results(tmp_path: Path, damaged: str) -> None:
    folder = RUN.folder(tmp_path)
    folder.mkdir()
    (folder / "metrics.json").write_text(damaged)
    assert not result(folder).finished
    assert not found(RUN, tmp_path, any_code=True).finished
    with pytest.raises(DataError, match="is not a finished run"):
        checkpoint(folder)
