"""A run: one recipe, trained on one data set and measured on one, in a folder of its own.

The folder's name ends in two fingerprints of everything the run depends on: one of the recipe's
values, the data, the seed, and the runs whose checkpoints it starts from; and one of the code. A
finished run is never repeated, and a changed one is another run.

    run.json        recipe and data
    progress.json   step and iterations done
    metrics.json    the results, once it is finished
    failure.json    why it failed, in one line
    output.txt      output of the process
    best, log.jsonl, curves.png   as `training.loop` writes them; last until it is finished
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from personsearch.bench import fingerprint
from personsearch.bench.data import Source
from personsearch.bench.files import read_json, read_metrics
from personsearch.errors import DataError
from personsearch.training.recipe import Recipe, make_recipe

SEARCH, SPEED, RATE = "search", "speed", "rate"
"""Kinds of run: trained and measured at search; built untrained and timed; a few timed steps."""


@dataclass(frozen=True, eq=False)
class Run:
    """A recipe, the data it is trained on, and the data it is measured on."""

    values: Mapping[str, Any]  # of the recipe, except what `needs`, `sources` and the data give
    data: Source
    test: Source
    kind: str = SEARCH
    needs: Mapping[str, "Run"] = field(default_factory=dict)  # recipe key -> run of a checkpoint
    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)  # key -> data sets
    extra: tuple[str, ...] = ()  # further measurements, see `bench.measure`
    protocol: str = ""  # of measures without an @; empty: the data set's first

    @property
    def system(self) -> str:
        return str(self.values["system"])

    @cached_property
    def task(self) -> str:
        """System, seed and fingerprint, whatever the code."""
        depends = {
            "values": dict(self.values),
            "data": self.data.fingerprint,
            "test": self.test.fingerprint,
            "kind": self.kind,
            "extra": list(self.extra),
            "needs": {key: run.task for key, run in self.needs.items()},
            "sources": {k: [s.fingerprint for s in v] for k, v in self.sources.items()},
        }
        if self.protocol:
            depends["protocol"] = self.protocol
        return f"{self.system}-seed{self.values['seed']}-{fingerprint.of_values(depends)}"

    @cached_property
    def code(self) -> str:
        """Fingerprint of the code, including that of the runs it starts from."""
        own = fingerprint.of_code(self.system)
        others = {key: run.code for key, run in self.needs.items()}
        return fingerprint.of_values({"own": own} | others) if others else own

    @property
    def name(self) -> str:
        return f"{self.task}-{self.code}"

    def folder(self, runs: Path) -> Path:
        return runs / self.name

    def recipe(self, runs: Path) -> Recipe:
        """Return the recipe, with the folders of its data sets and checkpoints."""
        filled = dict(self.values) | {"data": str(self.data.folder)}
        for key, run in self.needs.items():
            filled[key] = str(checkpoint(run.folder(runs)))
        for key, sources in self.sources.items():
            folders = [str(source.folder) for source in sources]
            filled[key] = folders if isinstance(self.values[key], list | tuple) else folders[0]
        return make_recipe(filled, self.name)


def checkpoint(folder: Path) -> Path:
    """Return the checkpoint of a finished run."""
    metrics = read_metrics(folder)
    if metrics is None:
        raise DataError(f"{folder}: is not a finished run; run it first")
    saved = folder.resolve() / str(metrics["checkpoint"])
    if not saved.is_dir():
        raise DataError(
            f"{saved}: the checkpoint of a finished run is gone; restore it, or delete {folder} to "
            "make the run again"
        )
    return saved


@dataclass(frozen=True)
class Result:
    """Outcome of a run; `metrics` is empty until it is finished."""

    metrics: Mapping[str, float]
    curves: tuple[Mapping[str, Any], ...] = ()  # reports, as `training.loop.read_log` returns them
    failure: str = ""  # why it failed, in one line
    other_code: bool = False  # made by another version of the code
    machine: Mapping[str, str] = field(default_factory=dict)  # device, software and commit

    @property
    def finished(self) -> bool:
        return bool(self.metrics)


def result(folder: Path) -> Result:
    """Read the outcome from a run's folder."""
    metrics = read_metrics(folder)
    if metrics is not None:
        curves, machine = tuple(metrics.get("curves", ())), metrics.get("machine", {})
        return Result(metrics["figures"], curves, machine=machine)
    failure = read_json(folder / "failure.json")
    return Result({}, failure=str(failure["error"]) if failure else "")


def found(run: Run, runs: Path, *, any_code: bool = False) -> Result:
    """Return the outcome of a run; with `any_code`, if need be that of another code version."""
    known = result(run.folder(runs))
    if known.finished or not any_code:
        return known
    others = [path for path in runs.glob(f"{run.task}-*/metrics.json") if read_metrics(path.parent)]
    latest = max(others, key=lambda path: path.stat().st_mtime_ns, default=None)
    return replace(result(latest.parent), other_code=True) if latest else known
