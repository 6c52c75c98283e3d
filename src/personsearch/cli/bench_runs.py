"""Shared by the commands that execute many runs: data sets, cost, and progress."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personsearch.cli.progress import StepProgress, detail_bars
from personsearch.terminal import echo

if TYPE_CHECKING:
    from rich.progress import TaskID

    from personsearch.bench.ablation import Ablation
    from personsearch.bench.binding import Scale
    from personsearch.bench.estimate import Estimate
    from personsearch.bench.execute import State
    from personsearch.bench.plan import Planner
    from personsearch.bench.runs import Run


def folders(data: list[str] | None, scale: "Scale") -> dict[str, Path]:
    """Return the data sets of ``FOLDER`` and ``NAME=FOLDER`` by name.

    The first without a name is ``main``; at the scale of the paper, each has that of its format.
    """
    from personsearch.datasets.formats import detect_format
    from personsearch.errors import DataError

    known: dict[str, Path] = {}
    for given in data or ():
        name, folder = _named(given)
        if not folder.exists():
            raise DataError(f"{folder}: no such data set; give its folder with --data")
        names = [name]
        if not name:
            names = [] if "main" in known and scale == "paper" else ["main"]
            if scale == "paper":
                names.append(detect_format(folder))
        for one in names:
            if one in known:
                raise typer.BadParameter(f"{one!r} is given twice", param_hint="--data")
            known[one] = folder
    return known


def _named(given: str) -> tuple[str, Path]:
    """Split ``NAME=FOLDER``; the name is empty for a folder alone."""
    name, equals, folder = given.partition("=")
    return (name, Path(folder)) if equals and not Path(given).exists() else ("", Path(given))


def check_tables(data: list[str] | None, tables: "Sequence[Ablation]") -> None:
    """Raise BadParameter for a data set that no table names, or two tables of one name."""
    from personsearch.bench.ablation import MAIN
    from personsearch.datasets.formats import FORMATS

    known = {MAIN, *FORMATS, *(name for table in tables for name in table.data)}
    for name in filter(None, (_named(given)[0] for given in data or ())):
        if name not in known:
            raise typer.BadParameter(
                f"no table has a data set {name!r}; they name {', '.join(sorted(known))}",
                param_hint="--data",
            )
    names = [table.name for table in tables]
    if twice := {name for name in names if names.count(name) > 1}:
        raise typer.BadParameter(f"table {min(twice)!r} is given twice; give or name it once")


@contextmanager
def drawing(planner: "Planner") -> Iterator[None]:
    """Show a bar while data sets are drawn."""
    with StepProgress() as steps:
        planner.progress = steps.step("drawing scenes")
        yield


def execute_runs(
    runs: "Sequence[Run]", folder: Path, jobs: int, device: str, what: str = "runs"
) -> dict[str, str]:
    """Execute runs with bars; exit with 130 on Ctrl-C. Return failures by the names of the runs."""
    from personsearch.bench.execute import execute

    progress = RunProgress(what)
    try:
        with progress.bars:
            return execute(runs, folder, jobs=jobs, device=device, listener=progress.show)
    except KeyboardInterrupt:
        echo("interrupted: the same command resumes from the last checkpoints", err=True)
        raise typer.Exit(130) from None


def measured_cost(runs: "Sequence[Run]", folder: Path, jobs: int, device: str) -> "Estimate":
    """Measure the rate of each system and print the cost of the missing runs."""
    from personsearch.bench.estimate import estimate, rates, unfinished

    wanted = {run.name: run for run in rates(unfinished(runs, folder)).values()}
    execute_runs(list(wanted.values()), folder, 1, device, "measuring rates")
    cost = estimate(runs, folder, jobs)
    kind = "GPU" if device.startswith("cuda") else "CPU"
    hours = f"about {cost.seconds / 3600:.1f} {kind} hours at the rate measured here"
    echo(
        f"{cost.runs} runs to make, {hours}, at most {cost.bytes / 1e9:.1f} GB in {folder}; runs "
        "that others start from are included",
        err=True,
    )
    for system, why in cost.unknown.items():
        echo(f"{system} is not included: its rate could not be measured: {why}", err=True)
    return cost


def exit_failed(failed: Mapping[str, str]) -> None:
    """Exit with status 1 if runs failed."""
    if failed:
        echo(f"error: {len(failed)} runs failed; the same command tries them again", err=True)
        raise typer.Exit(1)


class RunProgress:
    """A bar over all runs with the time left, and one for each that is in progress."""

    def __init__(self, what: str = "runs") -> None:
        self.bars = detail_bars(transient=True)
        self._all = self.bars.add_task(what, total=None, detail="")
        self._each: dict[str, TaskID] = {}
        self._printed = 0  # failures printed; new ones come last

    def show(self, state: "State") -> None:
        """Update the bars, and print each failure once."""
        detail = f"{len(state.failed)} failed " if state.failed else ""
        if state.seconds_left is not None:
            detail += f"about {math.ceil(state.seconds_left / 60)} min left"
        self.bars.update(self._all, completed=state.finished, total=state.total, detail=detail)
        for name in self._each.keys() - state.running.keys():
            self.bars.remove_task(self._each.pop(name))
        for name, (step, done, total) in state.running.items():
            if name not in self._each:
                self._each[name] = self.bars.add_task(name, detail="")
            self.bars.update(self._each[name], completed=done, total=total or None, detail=step)
        for name, why in list(state.failed.items())[self._printed :]:
            self.bars.console.print(f"failed: {name}: {why}", style="red", markup=False)
        self._printed = len(state.failed)
