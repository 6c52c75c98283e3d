"""A data set and a recipe for runs of the bench that take a second."""

import multiprocessing
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from personsearch.bench import worker
from personsearch.datasets import scenes
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.protocols import cross_camera_protocol
from personsearch.recipes import find
from personsearch.training.recipe import make_recipe
from personsearch.types import Scene

SMALL: dict[str, Any] = {
    "backbone_width": 4,
    "crop_iterations": 0,
    "iterations": 2,
    "images_per_iteration": 2,
    "min_size": 64,
    "max_size": 96,
    "anchor_sizes": [16, 28],
    "rois_per_image": 8,
    "rpn_post_nms_top_n_train": 12,
    "rpn_post_nms_top_n_test": 8,
    "detection_hidden": 8,
    "embedding_dim": 8,
    "queue_size": 4,
    "warmup": 0,
    "evaluate_every": 1,
    "checkpoint_every": 1,
    "log_every": 1,
    "validation_fraction": 0.0,
}


def write_recipe(folder: Path, **changes: Any) -> None:
    """Write ``oim.toml`` into a folder of base recipes."""
    folder.mkdir(parents=True, exist_ok=True)
    values = tomllib.loads(find("synthetic-small/oim").read_text(encoding="utf-8"))
    text = make_recipe(values | SMALL | changes).to_toml()
    (folder / "oim.toml").write_text(text, encoding="utf-8")


def draw(folder: Path) -> None:
    """Eight pictures by two cameras, each with two of four people."""
    rng = np.random.default_rng(0)
    splits: dict[str, list[Scene]] = {"train": [], "test": []}
    boxes = np.array([[8, 12, 24, 52], [54, 12, 70, 52]], dtype=np.float32)
    (folder / "images").mkdir(parents=True)
    for number in range(8):
        path = folder / "images" / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(path)
        ids = np.array([number % 4, (number + 1) % 4])
        scene = Scene(path.name, path, (96, 64), boxes, ids, camera=number % 2)
        splits["train" if number < 4 else "test"].append(scene)
    protocols = {"cross-camera": cross_camera_protocol(splits["test"])}
    scenes.write(Dataset("drawn", folder, splits, protocols), folder)


class Forked:
    """A `subprocess.Popen` of the bench's worker, forked from a process that has loaded torch."""

    def __init__(
        self, command: Sequence[str], stdout: BinaryIO, env: Mapping[str, str], **_: Any
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["personsearch.bench.measure", "personsearch.bench.rate"])
        arguments = list(command[-2:]), stdout.name, dict(env)
        self._process = context.Process(target=_work, args=arguments)
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _work(arguments: list[str], output: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with open(output, "ab") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(worker.main(arguments))
