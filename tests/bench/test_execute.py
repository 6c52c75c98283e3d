"""Runs side by side, with a process in the network's place that only says how it fared."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from personsearch.bench.ablation import Ablation, Variant
from personsearch.bench.data import Source
from personsearch.bench.execute import State, execute
from personsearch.bench.plan import Planner
from personsearch.bench.runs import SPEED, Run, result
from personsearch.errors import DataError

WORKER = """
import json, os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
recipe = json.loads((folder / "run.json").read_text())["recipe"]
log = folder.parent / "log.txt"
def note(what):
    with log.open("a") as file:
        file.write(f"{what} {recipe['lr']} {os.environ['OMP_NUM_THREADS']} {recipe['init']}\\n")
def stop(*_):
    note("stopped")
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
note("began")
if recipe["lr"] == 2.0:
    (folder / "failure.json").write_text(json.dumps({"error": "LossError: it broke"}))
    sys.exit(1)
if recipe["lr"] == 5.0:
    (folder / "failure.json").write_text(json.dumps({"error": "OSError: No space left on device"}))
    sys.exit(74)
if recipe["lr"] == 3.0:
    os.kill(os.getpid(), signal.SIGKILL)
(folder / "progress.json").write_text(json.dumps({"step": "scenes", "done": 3, "total": 9}))
time.sleep(30 if recipe["lr"] == 4.0 else 0.3)
note("ended")
metrics = {"figures": {"mean_ap": recipe["lr"]}, "checkpoint": "last"}
(folder / "last").mkdir(exist_ok=True)
(folder / "metrics.json").write_text(json.dumps(metrics))
"""


@pytest.fixture
def make(recipes: Path, tmp_path: Path, source: Source) -> Callable[..., dict[str, Run]]:
    def runs(**lr: float | tuple[float, str]) -> dict[str, Run]:
        variants = []
        for name, value in lr.items():
            rate, init = value if isinstance(value, tuple) else (value, "")
            changes = {"lr": rate} | ({"init": f"run:{init}"} if init else {})
            variants.append(Variant(name=name, set=changes))
        x = Ablation(name="x", title="x", recipe="oim", variant=tuple(variants))
        planner = Planner(recipes, tmp_path, "tiny", {"main": source.folder}, draw=False)
        return {name: runs[0] for name, runs in planner.table(x, 1).items()}

    return runs


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    return sys.executable, str(path)


def log(folder: Path) -> list[list[str]]:
    path = folder / "log.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []


def test_runs_are_made_once(
    make: Callable[..., dict[str, Run]], tmp_path: Path, command: tuple[str, str]
) -> None:
    runs = list(make(a=0.1, b=0.2, c=0.3).values())
    states: list[State] = []
    arguments = {"jobs": 2, "poll": 0.02, "command": command}
    assert execute(runs, tmp_path, listener=states.append, **arguments) == {}  # type: ignore[arg-type]
    assert sorted(line[1] for line in log(tmp_path) if line[0] == "ended") == ["0.1", "0.2", "0.3"]
    assert {line[2] for line in log(tmp_path)} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    assert max(len(state.running) for state in states) == 2
    assert any(("scenes", 3, 9) in state.running.values() for state in states)
    assert (states[-1].total, states[-1].finished, states[-1].running) == (3, 3, {})
    assert result(runs[1].folder(tmp_path)).metrics == {"mean_ap": 0.2}
    before = len(log(tmp_path))
    assert execute(runs, tmp_path, **arguments) == {}  # type: ignore[arg-type]
    assert len(log(tmp_path)) == before


def test_a_failure_stops_nothing_but_what_starts_from_it(
    make: Callable[..., dict[str, Run]], tmp_path: Path, command: tuple[str, str]
) -> None:
    runs = make(late=(0.4, "broken"), broken=2.0, killed=3.0, good=0.2, after=(0.5, "good"))
    failed = execute(list(runs.values()), tmp_path, poll=0.02, command=command)
    assert failed[runs["broken"].name] == "LossError: it broke"
    assert "ended with signal 9" in failed[runs["killed"].name]
    assert failed[runs["late"].name].endswith("which failed: LossError: it broke")
    assert len(failed) == 3
    assert result(runs["late"].folder(tmp_path)).failure == failed[runs["late"].name]
    # The one that starts from a good one was given its checkpoint.
    (began,) = [line for line in log(tmp_path) if line[:2] == ["began", "0.5"]]
    assert began[3] == str(runs["good"].folder(tmp_path) / "last")
    # What failed is tried again, what is finished is not.
    execute(list(runs.values()), tmp_path, poll=0.02, command=command)
    tried = [line[1] for line in log(tmp_path) if line[0] == "began"]
    assert (tried.count("2.0"), tried.count("0.2")) == (2, 1)


def test_damaged_results_are_made_again(
    make: Callable[..., dict[str, Run]], tmp_path: Path, command: tuple[str, str]
) -> None:
    (run,) = make(a=0.1).values()
    run.folder(tmp_path).mkdir()
    (run.folder(tmp_path) / "metrics.json").write_text('{"figures": ')
    assert execute([run], tmp_path, poll=0.02, command=command) == {}
    assert result(run.folder(tmp_path)).metrics == {"mean_ap": 0.1}


def test_a_full_disk_ends_all_runs(
    make: Callable[..., dict[str, Run]], tmp_path: Path, command: tuple[str, str]
) -> None:
    runs = list(make(long=4.0, full=5.0, later=0.1).values())
    with pytest.raises(DataError, match=r"the disk is full or broken.*; free space or choose"):
        execute(runs, tmp_path, jobs=2, poll=0.02, command=command)
    noted = [line[:2] for line in log(tmp_path)]
    assert ["began", "0.1"] not in noted
    assert noted.count(["stopped", "4.0"]) == noted.count(["began", "4.0"])


def test_a_folder_that_cannot_be_made_is_one_line(
    make: Callable[..., dict[str, Run]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/runs: cannot be written \(Not a directory\)"):
        execute(list(make(a=0.1).values()), tmp_path / "file" / "runs")


def test_what_is_timed_runs_alone_and_last(
    make: Callable[..., dict[str, Run]], tmp_path: Path, command: tuple[str, str]
) -> None:
    runs = make(timed=0.5, a=0.1, b=0.2, again=0.6)
    chosen = [
        replace(run, kind=SPEED) if name in ("timed", "again") else run
        for name, run in runs.items()
    ]
    first, *others = chosen
    assert execute([*others, first], tmp_path, jobs=3, poll=0.02, command=command) == {}
    events = [line[:2] for line in log(tmp_path)]
    for rate in ("0.5", "0.6"):
        began = events.index(["began", rate])
        assert events[began + 1] == ["ended", rate]
        assert began >= 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_lets_the_runs_stop_and_starts_no_other(
    make: Callable[..., dict[str, Run]],
    tmp_path: Path,
    command: tuple[str, str],
    number: signal.Signals,
) -> None:
    runs = list(make(a=4.0, b=0.2).values())
    # A shell may have started the tests deaf to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        while not log(tmp_path):
            time.sleep(0.02)
        time.sleep(0.1)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            execute(runs, tmp_path, poll=0.02, command=command)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [line[:2] for line in log(tmp_path)] == [["began", "4.0"], ["stopped", "4.0"]]
    assert json.loads((runs[0].folder(tmp_path) / "run.json").read_text())["recipe"]["lr"] == 4.0
