"""Cost of runs in device hours and disk, estimated from a few measured steps of each system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from personsearch.bench.execute import with_needs
from personsearch.bench.runs import RATE, SPEED, Run, result
from personsearch.training.catalogue import SYSTEMS

LENGTHS = {
    "crops": "crop_iterations",
    "re-identification": "reid_iterations",
    "scenes": "iterations",
    "crop classifier": "classifier_iterations",
    "detection": "detection_iterations",
    "refinement": "iterations",
    "features": "iterations",
}
"""The recipe key of the length of each stage."""
OF_PICTURES = ("scenes", "detection", "refinement")
"""Stages whose batches are of `images_per_iteration` pictures, `accumulate` times."""
STARTING = 10.0
"""Seconds in which a run starts and reads its data."""
TIMING = 120.0
"""Seconds of a run that is only timed."""
FROM_ELSEWHERE = {"init": "", "reid_init": "", "feature_cache": "", "detection_data": []}
"""Keys that do not change the rate, with their values while it is measured."""


@dataclass(frozen=True)
class Estimate:
    """The cost of runs that are not finished."""

    runs: int  # those that have to be made, with those that others start from
    seconds: float  # on the device, one run at a time
    bytes: float  # on disk, at most
    unknown: Mapping[str, str]  # system -> why its rate could not be measured


def stage_lengths(run: Run) -> dict[str, int]:
    """Return the iterations of each stage of a run that has some."""
    every = {stage: int(run.values[LENGTHS[stage]]) for stage in SYSTEMS[run.system].stages}
    return {stage: length for stage, length in every.items() if length}


def unfinished(runs: Sequence[Run], folder: Path) -> list[Run]:
    """Return the runs that have to be made, and those that they start from."""
    return [run for run in with_needs(runs) if not result(run.folder(folder)).finished]


def rates(runs: Sequence[Run]) -> dict[str, Run]:
    """Return, by the name of each run that trains, a run that measures its rate.

    Runs of one system, backbone and data set share one, with every stage that any of them has.
    """
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.kind != SPEED:
            parts = [str(run.values.get(key, "")) for key in ("system", "backbone", "detector")]
            key = (*parts, run.data.fingerprint, run.test.fingerprint)
            groups.setdefault(key, []).append(run)
    measured: dict[str, Run] = {}
    for members in groups.values():
        first = max(members, key=lambda run: len(stage_lengths(run)))
        lengths = {
            key: max(int(run.values[key]) for run in members)
            for key in {LENGTHS[stage] for stage in SYSTEMS[first.system].stages}
        }
        same = {k: v for k, v in FROM_ELSEWHERE.items() if k in first.values}
        values = dict(first.values) | lengths | same | {"seed": 0}
        one = replace(first, values=values, kind=RATE, needs={}, sources={}, extra=(), protocol="")
        measured |= {run.name: one for run in members}
    return measured


def estimate(runs: Sequence[Run], folder: Path, jobs: int = 1) -> Estimate:
    """Return the cost of the runs that are not finished, from the rates that were measured."""
    missing = unfinished(runs, folder)
    by_run = rates(missing)
    seconds, kept, working, unknown = 0.0, 0.0, 0.0, {}
    for run in missing:
        if run.kind == SPEED:
            seconds += TIMING
            continue
        rate = result(by_run[run.name].folder(folder))
        if not rate.finished:
            unknown[run.system] = rate.failure or "not measured"
            continue
        seconds += _seconds(run, by_run[run.name], rate.metrics)
        kept += rate.metrics["kept_bytes"]
        working = max(working, rate.metrics["working_bytes"])
    return Estimate(len(missing), seconds, kept + jobs * working, unknown)


def _seconds(run: Run, measured: Run, rate: Mapping[str, float]) -> float:
    seconds = STARTING + rate["pictures"] * rate["seconds_per_picture"]
    batch = _pictures(run) / _pictures(measured)
    for stage, length in stage_lengths(run).items():
        scale = batch if stage in OF_PICTURES else 1.0
        seconds += rate[f"before@{stage}"] + scale * length * rate[f"seconds@{stage}"]
    return seconds


def _pictures(run: Run) -> float:
    return float(run.values["images_per_iteration"] * run.values["accumulate"])
