"""Makes runs side by side, each in a process of its own; one that fails stops no other."""

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
from types import FrameType

from personsearch.bench import fingerprint, worker
from personsearch.bench.files import read_json, write_json
from personsearch.bench.runs import SPEED, Run
from personsearch.errors import PersonSearchError
from personsearch.processors import usable_processors

PATIENCE = 60.0
"""Seconds that interrupted runs have to write their checkpoints."""


@dataclass(frozen=True)
class State:
    """How far a number of runs is.

    Attributes:
        total: runs in all, those that others start from included.
        finished: how many have figures.
        failed: names of those that failed, and why.
        running: by name, what each does: step, iterations done, and in all.
        seconds_left: until all are finished; None where nothing can be said yet.
    """

    total: int
    finished: int
    failed: dict[str, str]
    running: dict[str, tuple[str, int, int]]
    seconds_left: float | None


Listener = Callable[[State], None]


def with_needs(runs: Sequence[Run]) -> list[Run]:
    """The runs and those that they start from, each once, the needed ones first."""
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
    listener: Listener | None = None,
    poll: float = 0.5,
    command: Sequence[str] = (sys.executable, "-m", "personsearch.bench.worker"),
) -> dict[str, str]:
    """Makes what is missing of the runs, and of those that they start from.

    Args:
        runs: in the order in which they are wanted.
        folder: of all runs.
        jobs: processes side by side; they share the processors.
        device: of the networks.
        listener: told how far they are, about twice a second.
        poll: seconds between two looks at them.
        command: of a run's process; its folder and the device are added.

    Returns:
        The runs that failed, and why.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the runs in progress wrote their checkpoints.
    """
    pool = _Pool(runs, folder.resolve(), jobs, (*command,), device)
    with _terminated_as_interrupted():
        try:
            while pool.waiting or pool.active:
                pool.start()
                pool.collect()
                if listener:
                    listener(pool.state())
                if pool.active:
                    time.sleep(poll)
        finally:
            pool.stop()
    return pool.failed


class _Pool:
    """Runs that wait, those in progress, and what became of the others."""

    def __init__(
        self, runs: Sequence[Run], folder: Path, jobs: int, command: tuple[str, ...], device: str
    ) -> None:
        self.folder, self.jobs, self.command, self.device = folder, jobs, command, device
        everything = with_needs(runs)
        self.total = len(everything)
        self.waiting = [run for run in everything if not _is_finished(run, folder)]
        self.finished = self.total - len(self.waiting)
        self.active: dict[str, subprocess.Popen[bytes]] = {}
        self.failed: dict[str, str] = {}
        self.timing = False
        self.clock = _Clock()

    def start(self) -> None:
        """Starts what can be started while there is room; what is timed runs alone."""
        for run in list(self.waiting):
            if len(self.active) == self.jobs or self.timing:
                return
            if run.kind == SPEED and self.active:
                continue
            place = run.folder(self.folder)
            if broken := [need.name for need in run.needs.values() if need.name in self.failed]:
                why = f"starts from {broken[0]}, which failed: {self.failed[broken[0]]}"
                self.failed[run.name] = _fail(place, why)
                self.waiting.remove(run)
            elif all(_is_finished(need, self.folder) for need in run.needs.values()):
                self.waiting.remove(run)
                try:
                    self.active[run.name] = self._process(run, place)
                    self.timing = run.kind == SPEED
                except PersonSearchError as error:
                    self.failed[run.name] = _fail(place, str(error))

    def collect(self) -> None:
        """Notes which runs ended, and how.

        Raises:
            KeyboardInterrupt: one was interrupted.
        """
        for name, process in list(self.active.items()):
            status = process.poll()
            if status is None:
                continue
            del self.active[name]
            self.timing = False
            if (self.folder / name / "metrics.json").is_file():
                self.finished += 1
                self.clock.one_more(name)
            elif status == worker.STOPPED:
                raise KeyboardInterrupt
            else:
                self.failed[name] = _why(self.folder / name, status)

    def state(self) -> State:
        """How far all this is."""
        running = {name: _progress(self.folder / name) for name in self.active}
        self.clock.see(running)
        left = self.clock.left(len(self.waiting), len(running), self.jobs)
        return State(self.total, self.finished, dict(self.failed), running, left)

    def stop(self) -> None:
        """Lets each finish its iteration and write a checkpoint; ends those that do not."""
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


class _Clock:
    """How long a run takes, by those that were made."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.took: list[float] = []

    def see(self, running: dict[str, tuple[str, int, int]]) -> None:
        for name in running:
            self.began.setdefault(name, time.monotonic())

    def one_more(self, name: str) -> None:
        self.took.append(time.monotonic() - self.began.get(name, time.monotonic()))

    def left(self, waiting: int, active: int, jobs: int) -> float | None:
        if not self.took:
            return None
        each = sum(self.took) / len(self.took)
        # Those that are running are half done on average.
        return each * (waiting + active / 2) / jobs


def _is_finished(run: Run, folder: Path) -> bool:
    return (run.folder(folder) / "metrics.json").is_file()


def _progress(place: Path) -> tuple[str, int, int]:
    known = read_json(place / "progress.json")
    if known is None:
        return "starting", 0, 0
    return str(known["step"]), int(known["done"]), int(known["total"])


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
    """A polite request to end is a Ctrl-C, so that the runs are not left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
