"""Time of an untrained system for a picture and a person, on pictures of its data set.

Time depends on the number of people, which the system is set to report, not on the weights.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.datasets import open_dataset
from personsearch.errors import RecipeError
from personsearch.media.pictures import read_scene
from personsearch.precision import autocast
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.inference import to_tensor
from personsearch.training.recipe import Recipe, make_recipe

PEOPLE = (5, 20, 100)
BATCHES = (1, 4, 8)
CROP_SHARE = 224 / 600
"""Side of a person's crop over the picture's shorter side, in Xiao et al. 2016."""


def measure(recipe: Recipe, device: torch.device, repeats: int = 15) -> dict[str, float]:
    """Measure milliseconds of detection and embedding together.

    Returns:
        ``ms_per_person@batch-B-people-P`` for every B of `BATCHES` and P of `PEOPLE`;
        ``ms_per_picture@people-P``, one picture at a time; ``ms_per_picture@people-P-separate``,
        where each detected person is cropped and passes through the whole network once more; and
        ``parameters``.
    """
    scenes = open_dataset(Path(recipe.data)).split("test")
    pictures = [to_tensor(read_scene(scene)).to(device) for scene in scenes[: max(BATCHES)]]
    side = max(16, round(CROP_SHARE * min(pictures[0].shape[1:])))
    alone = _built(recipe, {"min_size": side, "max_size": side}).to(device).eval()
    timed = partial(_fastest, device=device, precision=recipe.precision, repeats=repeats)
    metrics: dict[str, float] = {}
    for people in PEOPLE:
        model = with_people(recipe, people).to(device).eval()
        metrics["parameters"] = float(sum(p.numel() for p in model.parameters()))
        for batch in BATCHES:
            images = (pictures * batch)[:batch]
            seconds, found = timed(partial(_detect, model, images))
            metrics[f"ms_per_person@batch-{batch}-people-{people}"] = 1e3 * seconds / max(1, found)
            if batch == 1:
                crop = functional.interpolate(pictures[0][None], (side, side))[0]
                more, _ = timed(partial(_embed, alone, [crop] * found))
                metrics[f"ms_per_picture@people-{people}"] = 1e3 * seconds
                metrics[f"ms_per_picture@people-{people}-separate"] = 1e3 * (seconds + more)
    return metrics


def with_people(recipe: Recipe, people: int) -> PersonSearchModel:
    """Build the untrained system so that it reports that many people in every picture."""
    changed: dict[str, Any] = {"max_detections": people, "score_threshold": 0.0, "nms_iou": 0.99}
    if missing := set(changed) - set(recipe.settings):
        raise RecipeError(
            f"system {recipe.system!r} has no key {min(missing)!r}, by which the number of people "
            "is set; its time for a person cannot be measured"
        )
    return _built(recipe, changed)


def _built(recipe: Recipe, changed: dict[str, Any]) -> PersonSearchModel:
    torch.manual_seed(recipe.seed)
    values = recipe.model_dump() | recipe.settings
    return make_recipe(values | {k: v for k, v in changed.items() if k in values}).build(num_ids=2)


def _detect(model: PersonSearchModel, images: list[Tensor]) -> int:
    return sum(len(one.boxes) for one in model.detect(images))


def _embed(model: PersonSearchModel, crops: list[Tensor]) -> int:
    whole = [crop.new_tensor([[0.0, 0.0, crop.shape[2], crop.shape[1]]]) for crop in crops]
    return len(model.embed(crops, whole)) if crops else 0


@torch.inference_mode()
def _fastest(
    call: Callable[[], int], device: torch.device, precision: str, repeats: int
) -> tuple[float, int]:
    """Return the seconds of the fastest call, as other work only adds time, and the last result."""
    taken = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        with autocast(device, precision):
            found = call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return min(taken[1:]), found
