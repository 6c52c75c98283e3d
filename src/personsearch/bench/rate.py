"""Measures the rate of a system on a few steps, before hours of runs are started."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch

from personsearch.datasets import open_dataset
from personsearch.datasets.dataset import Dataset, renumbering, with_ids
from personsearch.errors import PersonSearchError
from personsearch.evaluation.runner import detect_scenes, ground_truth_detections
from personsearch.training.loop import Trainer
from personsearch.training.recipe import Recipe
from personsearch.training.report import Report
from personsearch.training.stages import Stage

STEPS = 4
"""Iterations of each stage; the first is not timed."""
SCENES = (100, 400, 10**9)
"""Numbers of training pictures; the first that the system can be trained on is used."""
PICTURES = 6
"""Test pictures; the first is not timed."""


def measure(recipe: Recipe, device: torch.device, folder: Path) -> dict[str, float]:
    """Train and search for a few steps; their files are deleted.

    Returns:
        ``seconds@STAGE`` for an iteration of each stage and ``before@STAGE`` for what it prepares;
        ``seconds_per_picture`` of the test split and ``pictures`` in it; ``kept_bytes`` of a
        finished run's weights and ``working_bytes`` of a run in progress.
    """
    dataset, place = open_dataset(Path(recipe.data)), folder / "rate"
    short = recipe.model_copy(
        update={
            "weights": "none",
            "validation_fraction": 0.0,
            "log_every": 1,
            "checkpoint_every": 10**9,
            "evaluate_every": 10**9,
        }
    )
    for count in SCENES:
        part = _beginning(dataset, count)
        try:
            share = len(part.split("train")) / len(dataset.split("train"))
            return _measured(short, part, share, device, place)
        except PersonSearchError:
            if len(part.split("train")) == len(dataset.split("train")):
                raise
        finally:
            shutil.rmtree(place, ignore_errors=True)
    raise AssertionError("the last count covers every data set")


def _beginning(dataset: Dataset, count: int) -> Dataset:
    """Return the data set with its first training pictures, their identities without gaps."""
    scenes = dataset.split("train")[:count]
    numbers = renumbering(identity for scene in scenes for identity in scene.ids.tolist())
    train = [with_ids(scene, numbers) for scene in scenes]
    return replace(dataset, splits={"train": train, "test": dataset.split("test")}, protocols={})


def _measured(
    recipe: Recipe, dataset: Dataset, share: float, device: torch.device, place: Path
) -> dict[str, float]:
    """Measure on a data set that has a share of all training pictures."""
    stamps: dict[str, list[float]] = {}

    def tell(report: Report) -> None:
        stamps.setdefault(report.stage, []).append(time.perf_counter())

    trainer = Trainer(recipe, dataset, place, device=device, listener=tell)
    for stage in trainer.stages:
        stage.iterations = min(STEPS, stage.iterations)
    ended = time.perf_counter()
    trainer.run()
    metrics: dict[str, float] = {}
    for stage in trainer.stages:
        first, *others = stamps[stage.name]
        each = (others[-1] - first) / len(others) if others else first - ended
        metrics[f"seconds@{stage.name}"] = each
        # What a stage prepares, such as features on disk, it prepares for every picture.
        prepares = type(stage).prepare is not Stage.prepare
        waited = (first - ended - each) / share if prepares else 0.0
        metrics[f"before@{stage.name}"] = max(0.0, waited)
        ended = [first, *others][-1]
    scenes, model = dataset.split("test"), trainer.model.for_inference(recipe.precision)
    timed = scenes[1:PICTURES] or scenes
    for part in (scenes[:1], timed):
        began = time.perf_counter()
        detect_scenes(model, part)
        ground_truth_detections(model, part)
    metrics["seconds_per_picture"] = (time.perf_counter() - began) / len(timed)
    metrics["pictures"] = float(len(scenes))
    sizes = {path: path.stat().st_size for path in place.rglob("*") if path.is_file()}
    last = sum(size for path, size in sizes.items() if place / "last" in path.parents)
    metrics["kept_bytes"] = float(sizes[place / "last" / "model.safetensors"])
    # A checkpoint is written before the last one is removed.
    metrics["working_bytes"] = 2.0 * last + (sum(sizes.values()) - last) / share
    return metrics
