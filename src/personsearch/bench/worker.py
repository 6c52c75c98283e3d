"""The process of one run: ``python -m personsearch.bench.worker FOLDER DEVICE``.

It reads ``run.json``, trains or resumes training, measures, and writes ``metrics.json`` last. On
Ctrl-C, or when its parent process is gone, it stops after a checkpoint.
"""

import errno
import os
import platform
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from personsearch.bench.files import read_json, read_metrics, write_json

STOPPED = 130
"""Exit status of a run that was interrupted and can resume."""
DISK = 74
"""Exit status of a run that a full or broken disk ended; it would end others, too."""
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


def main(arguments: list[str]) -> int:
    """Execute the run in a folder; return the exit status."""
    folder, device = Path(arguments[0]), arguments[1]
    # A shell may have started the parent, and so this process, with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _stop_with_parent()
    with FileLock(folder / ".lock"):  # another process may work on the same run
        if read_metrics(folder):
            return 0
        try:
            write_json(folder / "metrics.json", _make(folder, device))
            (folder / "failure.json").unlink(missing_ok=True)
        except KeyboardInterrupt:
            return STOPPED
        except Exception as error:
            with suppress(OSError):
                traceback.print_exc()
                line = " ".join(str(error).split()) or "no message"
                write_json(folder / "failure.json", {"error": f"{type(error).__name__}: {line}"})
            return DISK if _of_disk(error) else 1
    return 0


def _of_disk(error: BaseException) -> bool:
    """Whether an error, or one behind it, says that the disk is full or broken."""
    behind = error.__cause__ or error.__context__
    return (
        (isinstance(error, OSError) and error.errno in _DISK_ERRORS)
        # safetensors only has the text of the operating system's error
        or any(f"(os error {number})" in str(error) for number in _DISK_ERRORS)
        or (behind is not None and _of_disk(behind))
    )


def _make(folder: Path, device: str) -> dict[str, Any]:
    import torch

    from personsearch.bench import fingerprint, measure, rate, speed
    from personsearch.bench.runs import RATE, SPEED
    from personsearch.datasets import open_dataset
    from personsearch.errors import DataError, TrainingError
    from personsearch.loading import load
    from personsearch.training.devices import choose_device
    from personsearch.training.loop import Trainer, read_log
    from personsearch.training.recipe import make_recipe
    from personsearch.training.report import Report

    job = read_json(folder / "run.json")
    if job is None:
        raise DataError(f"{folder}: has no run.json")
    if fingerprint.of_code(str(job["recipe"]["system"])) != job["code"]:
        raise TrainingError(
            "the source code changed after the run was planned; run the same command again"
        )
    where = choose_device(device)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads())
    recipe = make_recipe(job["recipe"], folder.name)
    named = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.machine()
    known = {
        "machine": {
            "torch": torch.__version__,
            "device": f"{where}, {named}",
            "commit": fingerprint.commit(),
        }
    }
    if job["kind"] == SPEED:
        return known | {"figures": speed.measure(recipe, where), "checkpoint": ""}
    if job["kind"] == RATE:
        return known | {"figures": rate.measure(recipe, where, folder), "checkpoint": ""}

    # The time of training adds up in a file, over interrupted and killed processes.
    before = float((read_json(folder / "seconds.json") or {}).get("seconds", 0.0))
    began = time.perf_counter()

    def progress(step: str, done: int, total: int, seconds_left: float | None = 0.0) -> None:
        values = {"step": step, "done": done, "total": total, "seconds_left": seconds_left}
        write_json(folder / "progress.json", values)

    def count() -> float:
        seconds = before + time.perf_counter() - began
        write_json(folder / "seconds.json", {"seconds": seconds})
        return seconds

    def tell(report: Report) -> None:
        count()
        progress(report.stage, report.iteration, report.iterations, report.seconds_left)

    dataset = open_dataset(Path(recipe.data), recipe.data_format or None)
    trainer = Trainer(recipe, dataset, folder, device=where, listener=tell)
    began = time.perf_counter()
    try:
        best = trainer.run(resume=True)
    finally:
        train_seconds = count()
    trained = trainer.scenes
    del trainer
    tested = dataset if job["test"] == recipe.data else open_dataset(Path(job["test"]))
    model = load(best, where).for_inference(recipe.precision)
    metrics = measure.measure(
        model,
        tested,
        protocol=str(job.get("protocol", "")),
        score_threshold=recipe.eval_score_threshold,
        precision=recipe.precision,
        progress=progress,
    )
    log = read_log(folder / "log.jsonl")
    if "without-detection" in job["extra"]:
        metrics |= measure.without_detection(
            model, tested, str(job.get("protocol", "")), precision=recipe.precision
        )
    if "identity-accuracy" in job["extra"]:
        metrics |= measure.identity_accuracy(model, trained, precision=recipe.precision)
    metrics["train_seconds"] = train_seconds
    rates = [line["images_per_second"] for line in log]
    metrics["train_images_per_second"] = sum(rates) / max(1, len(rates))
    metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if where.type == "cuda":
        metrics["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 1e6
    # A finished run is measured and started from, but not resumed.
    if best.name != "last":
        shutil.rmtree(folder / "last", ignore_errors=True)
    shutil.rmtree(folder / "features", ignore_errors=True)
    return known | {"figures": metrics, "curves": log, "checkpoint": best.name}


def _stop_with_parent() -> None:
    """Interrupt this process when its parent ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
