"""A run's process: trains, measures, writes all of it, goes on where it was stopped."""

import errno
import fcntl
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from personsearch.bench import fingerprint, speed, worker
from personsearch.bench.data import Source
from personsearch.bench.files import read_json, write_json
from personsearch.bench.fingerprint import of_code
from personsearch.bench.runs import checkpoint, result
from personsearch.errors import CheckpointError
from personsearch.loading import load
from personsearch.training import loop
from personsearch.training.recipe import read_recipe


def job(folder: Path, recipes: Path, source: Source, kind: str = "search", **more: object) -> Path:
    recipe = read_recipe(recipes / "oim.toml")
    values = recipe.model_dump() | recipe.settings | {"data": str(source.folder)} | more
    about = {"recipe": values, "test": str(source.folder), "kind": kind}
    more_about = {"extra": ["without-detection"], "code": of_code("oim")}
    write_json(folder / "run.json", about | more_about)
    return folder


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # In a process of its own it may install handlers; here it must not.
    monkeypatch.setattr(worker, "_stop_with_parent", lambda: None)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)


def test_a_run_is_trained_measured_and_kept(tmp_path: Path, recipes: Path, source: Source) -> None:
    folder = job(tmp_path / "run", recipes, source)
    assert worker.main([str(folder), "cpu"]) == 0
    known = result(folder)
    assert known.finished
    assert {
        "mean_ap",
        "top_10",
        "mean_ap@truth",
        "mean_ap@without-detection",
        "detection_ap",
        "train_seconds",
        "train_images_per_second",
        "search_images_per_second",
        "peak_memory_mb",
        "parameters",
    } <= set(known.metrics)
    assert known.metrics["peak_memory_mb"] > 50
    assert known.metrics["train_seconds"] > 0
    assert [line["stage"] for line in known.curves] == ["crops", "scenes", "scenes"]
    assert checkpoint(folder) == folder.resolve() / "best"
    assert load(checkpoint(folder)).embedding_dim == 8
    assert not (folder / "last").exists()  # what training would resume from
    before = (folder / "metrics.json").stat().st_mtime_ns
    assert worker.main([str(folder), "cpu"]) == 0
    assert (folder / "metrics.json").stat().st_mtime_ns == before


def test_a_failure_is_one_line_and_goes_when_the_run_succeeds(
    tmp_path: Path, recipes: Path, source: Source, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = job(tmp_path / "run", recipes, source, init=str(tmp_path / "nowhere"))
    assert worker.main([str(folder), "cpu"]) == 1
    failure = result(folder).failure
    assert "nowhere" in failure
    assert "\n" not in failure
    assert failure.partition(":")[0].endswith("Error")
    assert "Traceback" in capfd.readouterr().err
    job(folder, recipes, source)
    assert worker.main([str(folder), "cpu"]) == 0
    assert not (folder / "failure.json").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        CheckpointError("not written (I/O error: No space left on device (os error 28))"),
    ],
)
def test_a_full_disk_has_a_status_of_its_own(
    tmp_path: Path,
    recipes: Path,
    source: Source,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        try:
            raise error
        except Exception:
            raise CheckpointError("cannot be written") from None

    monkeypatch.setattr(loop.checkpoint, "save_checkpoint", full)
    folder = job(tmp_path / "run", recipes, source)
    assert worker.main([str(folder), "cpu"]) == worker.DISK


def test_a_full_disk_needs_no_room_for_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(worker, "_make", full)
    monkeypatch.setattr(worker, "write_json", full)
    assert worker.main([str(tmp_path), "cpu"]) == worker.DISK


def test_code_that_changed_meanwhile_makes_no_run(
    tmp_path: Path, recipes: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = job(tmp_path / "run", recipes, source)
    monkeypatch.setattr(fingerprint, "of_code", lambda system: "edited")
    assert worker.main([str(folder), "cpu"]) == 1
    assert "the source code changed after the run was planned" in result(folder).failure
    assert not (folder / "last").exists()


def test_a_speed_run_trains_nothing(
    tmp_path: Path, recipes: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "measure", partial(speed.measure, repeats=1))
    folder = job(tmp_path / "run", recipes, source, "speed")
    assert worker.main([str(folder), "cpu"]) == 0
    assert "ms_per_picture@people-5" in result(folder).metrics
    assert not (folder / "last").exists()


def test_a_killed_run_and_an_interrupted_one_go_on(
    tmp_path: Path, recipes: Path, source: Source
) -> None:
    folder = job(tmp_path / "run", recipes, source, iterations=100_000, evaluate_every=100_000)
    command = [sys.executable, "-m", "personsearch.bench.worker", str(folder), "cpu"]
    counted = [0.0]
    for stop in (signal.SIGKILL, signal.SIGINT):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            seconds, step = 0.0, ""
            while seconds <= counted[-1] or step != "scenes":
                assert process.poll() is None
                time.sleep(0.05)
                seconds = (read_json(folder / "seconds.json") or {}).get("seconds", 0.0)
                step = (read_json(folder / "progress.json") or {}).get("step", "")
            process.send_signal(stop)
            assert process.wait(30) == (worker.STOPPED if stop == signal.SIGINT else -stop)
        # The time of a killed run counts too.
        counted.append((read_json(folder / "seconds.json") or {})["seconds"])
    assert 0.0 < counted[1] < counted[2]
    assert not result(folder).finished
    stage = read_json(folder / "last" / "training.json")
    assert stage is not None
    assert stage["stage"] == "scenes"
    assert not (folder / "failure.json").exists()


def test_two_processes_do_not_work_on_one_run(
    tmp_path: Path, recipes: Path, source: Source
) -> None:
    folder = job(tmp_path / "run", recipes, source)
    command = [sys.executable, "-m", "personsearch.bench.worker", str(folder), "cpu"]
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2.0)
            write_json(folder / "metrics.json", {"figures": {"mean_ap": 0.5}, "checkpoint": "last"})
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert process.wait(30) == 0
    assert result(folder).metrics == {"mean_ap": 0.5}


def test_a_process_whose_parent_is_gone_stops(tmp_path: Path) -> None:
    child = (
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "from personsearch.bench.worker import _stop_with_parent\n"
        # A shell may have started the tests deaf to Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "_stop_with_parent()\n"
        "try:\n"
        "    Path(sys.argv[1], 'began').touch()\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    Path(sys.argv[1], 'stopped').touch()\n"
    )
    parent = (
        "import subprocess, sys, time\n"
        "from pathlib import Path\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]])\n"
        "while not Path(sys.argv[1], 'began').exists():\n"
        "    time.sleep(0.02)\n"
    )
    subprocess.run([sys.executable, "-c", parent, str(tmp_path), child], check=True, timeout=60)
    until = time.monotonic() + 20
    while not (tmp_path / "stopped").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
