"""A run: one recipe, trained on one data set and measured on one, in a folder of its own.

The folder's name ends in two fingerprints of all that the run depends on: one of the recipe's
values, the data, the seed, and the runs whose checkpoints it starts from; and one of the source
code. So a finished run is never made again, and one that something changed for is another run.

    run.json        what it is
    progress.json   how far it is
    metrics.json    what it measured; there when it is finished
    failure.json    why it was not finished, in one line
    output.txt      what the process said
    last, best, log.jsonl, curves.png   as `training.loop` writes them
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from personsearch.bench import fingerprint
from personsearch.bench.data import Source
from personsearch.bench.files import read_json
from personsearch.errors import DataError
from personsearch.training.recipe import Recipe, make_recipe

SEARCH, SPEED = "search", "speed"
"""Kinds of run: trained and measured at search, or built untrained and timed."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Attributes:
        values: of the recipe, complete but for what `needs`, `sources` and the data give.
        data: what it is trained on.
        test: what it is measured on.
        kind: `SEARCH` or `SPEED`.
        needs: by recipe key, the run whose checkpoint goes there.
        sources: by recipe key, the data sets whose folders go there.
        extra: what is measured besides, see `bench.measure`.
    """

    values: Mapping[str, Any]
    data: Source
    test: Source
    kind: str = SEARCH
    needs: Mapping[str, "Run"] = field(default_factory=dict)
    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    extra: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        """Of everything that the run draws."""
        return int(self.values["seed"])

    @property
    def system(self) -> str:
        """Which is trained."""
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
        return f"{self.system}-seed{self.seed}-{fingerprint.of_values(depends)}"

    @cached_property
    def code(self) -> str:
        """Fingerprint of the code, that of the runs which it starts from included."""
        own = fingerprint.of_code(self.system)
        others = {key: run.code for key, run in self.needs.items()}
        return fingerprint.of_values({"own": own} | others) if others else own

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.task}-{self.code}"

    def folder(self, runs: Path) -> Path:
        """Where it lies below a folder of runs."""
        return runs / self.name

    def recipe(self, runs: Path) -> Recipe:
        """The recipe with the folders that its keys stand for, as far as they are known.

        Raises:
            RecipeError: a key that does not belong, a wrong type, or a contradiction.
            DataError: a checkpoint that it starts from is not there yet.
        """
        filled = dict(self.values) | {"data": str(self.data.folder)}
        for key, run in self.needs.items():
            filled[key] = str(checkpoint(run.folder(runs)))
        for key, sources in self.sources.items():
            folders = [str(source.folder) for source in sources]
            filled[key] = folders if isinstance(self.values[key], list | tuple) else folders[0]
        return make_recipe(filled, self.name)


def checkpoint(folder: Path) -> Path:
    """The checkpoint of a finished run.

    Raises:
        DataError: the run is not finished.
    """
    metrics = read_json(folder / "metrics.json")
    if metrics is None:
        raise DataError(f"{folder}: is not a finished run; run it first")
    return folder.resolve() / str(metrics["checkpoint"])


@dataclass(frozen=True)
class Result:
    """What is known of a run.

    Attributes:
        figures: what it measured, by name; empty if it is not finished.
        curves: its reports, as `training.loop.read_log` gives them.
        failure: why it failed, in one line; empty if it did not.
        other_code: whether another version of the code made it.
    """

    figures: Mapping[str, float]
    curves: tuple[Mapping[str, Any], ...] = ()
    failure: str = ""
    other_code: bool = False

    @property
    def finished(self) -> bool:
        """Whether there are figures."""
        return bool(self.figures)


def result(folder: Path) -> Result:
    """What a run's folder says."""
    metrics = read_json(folder / "metrics.json")
    if metrics is not None:
        return Result(metrics["figures"], tuple(metrics.get("curves", ())))
    failure = read_json(folder / "failure.json")
    return Result({}, failure=str(failure["error"]) if failure else "")


def found(run: Run, runs: Path, *, any_code: bool = False) -> Result:
    """What is known of a run.

    Args:
        run: which.
        runs: folder of all runs.
        any_code: where it is not finished, take the latest that another version of the code made.
    """
    known = result(run.folder(runs))
    if known.finished or not any_code:
        return known
    others = [path for path in runs.glob(f"{run.task}-*") if (path / "metrics.json").is_file()]
    if not others:
        return known
    latest = max(others, key=lambda path: (path / "metrics.json").stat().st_mtime_ns)
    return replace(result(latest), other_code=True)
