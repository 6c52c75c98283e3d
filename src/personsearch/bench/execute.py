"""Executes runs in parallel, each in its own process; a failure stops no other run."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personsearch.bench import fingerprint, worker
from personsearch.bench.files import read_json, read_metrics, write_json
from personsearch.bench.runs import RATE, SPEED, Run
from personsearch.durable import make_writable
from personsearch.errors import DataError, PersonSearchError
from personsearch.processors import usable_processors

PATIENCE = 60.0
"""Seconds in which interrupted runs must write their checkpoints."""
_ALONE = (SPEED, RATE)  # runs that are timed
_STARTING: dict[str, Any] = {"step": "starting", "done": 0, "total": 0}


@dataclass(frozen=True)
class State:
    """Progress of a number of runs."""

    total: int  # including the runs that others start from
    finished: int
    failed: dict[str, str]  # name -> reason
    running: dict[str, tuple[str, int, int]]  # name -> step, iterations done, and in all
    seconds_left: float | None  # None until the first run is finished


def with_needs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs and those that they start from, each once, in order of dependence."""
    ordered: dict[str, Run] = {}

    def add(run: Run) -> None:
        for needed in run.needs.values():
            add(needed)
        ordered.setdefault(run.name, run)

    for run in runs:
        add(run)
    return list(ordered.values())


def execute(
    runs: Sequence[Run],
    folder: Path,
    *,
    jobs: int = 1,
    device: str = "cpu",
    listener: Callable[[State], None] | None = None,
    poll: float = 0.5,
    command: Sequence[str] = (sys.executable, "-m", "personsearch.bench.worker"),
) -> dict[str, str]:
    """Execute the runs that are not finished, and those that they start from, in this order.

    The processes of `jobs` runs, whose commands are `command` with a run's folder and the device
    appended, share the processors. The listener is called every `poll` seconds. Return the names of
    the runs that failed, and why. On Ctrl-C the runs in progress write their checkpoints first.

    Raises:
        DataError: the folder cannot be written or its disk is full; the other runs are stopped.
    """
    pool = _Pool(runs, folder.resolve(), jobs, (*command,), device)
    with _terminated_as_interrupted():
        try:
            if pool.waiting:
                make_writable(folder)
            while pool.waiting or pool.active:
                pool.start()
                pool.collect()
                if listener:
                    listener(pool.state())
                if pool.active:
                    time.sleep(poll)
        except OSError as error:
            raise _unwritable(folder, error.strerror or str(error)) from None
        finally:
            pool.stop()
    return pool.failed


class _Pool:
    """Runs that wait, are in progress, finished or failed."""

    def __init__(
        self, runs: Sequence[Run], folder: Path, jobs: int, command: tuple[str, ...], device: str
    ) -> None:
        self.folder, self.jobs, self.command, self.device = folder, jobs, command, device
        everything = with_needs(runs)
        self.total = len(everything)
        self.waiting = [run for run in everything if not read_metrics(run.folder(folder))]
        self.finished = {run.name for run in everything} - {run.name for run in self.waiting}
        self.active: dict[str, subprocess.Popen[bytes]] = {}
        self.failed: dict[str, str] = {}
        self.timing = False
        self.began: dict[str, float] = {}
        self.took: list[float] = []  # seconds of the runs that finished

    def start(self) -> None:
        """Start what can be started; a timed run runs alone."""
        for run in list(self.waiting):
            if len(self.active) == self.jobs or self.timing:
                return
            if run.kind in _ALONE and self.active:
                continue
            place = run.folder(self.folder)
            if broken := [need.name for need in run.needs.values() if need.name in self.failed]:
                why = f"starts from {broken[0]}, which failed: {self.failed[broken[0]]}"
                self.failed[run.name] = _fail(place, why)
                self.waiting.remove(run)
            elif all(need.name in self.finished for need in run.needs.values()):
                self.waiting.remove(run)
                try:
                    self.active[run.name] = self._process(run, place)
                    self.began[run.name] = time.monotonic()
                    self.timing = run.kind in _ALONE
                except PersonSearchError as error:
                    self.failed[run.name] = _fail(place, str(error))

    def collect(self) -> None:
        """Record which runs ended, and how; raise KeyboardInterrupt if one was interrupted."""
        for name, process in list(self.active.items()):
            status = process.poll()
            if status is None:
                continue
            del self.active[name]
            self.timing = False
            if read_metrics(self.folder / name):
                self.finished.add(name)
                self.took.append(time.monotonic() - self.began[name])
            elif status == worker.STOPPED:
                raise KeyboardInterrupt
            elif status == worker.DISK:
                raise _unwritable(self.folder, f"the disk is full or broken, says run {name}")
            else:
                self.failed[name] = _why(self.folder / name, status)

    def state(self) -> State:
        running = {}
        for name in self.active:
            known = read_json(self.folder / name / "progress.json") or _STARTING
            running[name] = str(known["step"]), int(known["done"]), int(known["total"])
        # Those that are running are half done on average.
        rounds = (len(self.waiting) + len(running) / 2) / self.jobs
        left = rounds * sum(self.took) / len(self.took) if self.took else None
        return State(self.total, len(self.finished), dict(self.failed), running, left)

    def stop(self) -> None:
        """Interrupt all runs, which then write a checkpoint; kill those that do not end."""
        for process in self.active.values():
            process.send_signal(signal.SIGINT)
        until = time.monotonic() + PATIENCE
        for process in self.active.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _process(self, run: Run, place: Path) -> "subprocess.Popen[bytes]":
        place.mkdir(parents=True, exist_ok=True)
        (place / "failure.json").unlink(missing_ok=True)
        recipe = run.recipe(self.folder)
        job = {
            "recipe": recipe.model_dump() | recipe.settings,
            "test": str(run.test.folder),
            "kind": run.kind,
            "extra": list(run.extra),
            "protocol": run.protocol,
            "code": fingerprint.of_code(run.system),
        }
        write_json(place / "run.json", job)
        threads = str(max(1, usable_processors() // self.jobs))
        with (place / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [*self.command, str(place), self.device],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
                # Ctrl-C comes to this process, which passes it on once.
                start_new_session=True,
            )


def _unwritable(folder: Path, why: str) -> DataError:
    return DataError(
        f"{folder}: cannot be written ({why}); free space or choose another folder. The same "
        "command resumes from the last checkpoints"
    )


def _why(place: Path, status: int) -> str:
    known = read_json(place / "failure.json")
    if known is not None:
        return str(known["error"])
    ended = f"signal {-status}" if status < 0 else f"exit status {status}"
    return _fail(place, f"the process ended with {ended}; see {place / 'output.txt'}")


def _fail(place: Path, error: str) -> str:
    write_json(place / "failure.json", {"error": error})
    return error


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C, so that the runs are stopped too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
