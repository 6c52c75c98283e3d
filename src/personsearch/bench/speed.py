"""How long a system takes for a picture and a person: nothing is trained for it.

Time does not depend on what the weights are, only on how many people there are. So the network is
built as it is, told to report a fixed number of people, and timed on pictures of its data set.
"""

import time
from collections.abc import Callable
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
_REPEATS = 15


def measure(recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Milliseconds for pictures and people, detection and embedding together.

    Returns:
        ``ms_per_person@batch-B-people-P`` for every B of `BATCHES` and P of `PEOPLE`;
        ``ms_per_picture@people-P``, one picture at a time; ``ms_per_picture@people-P-separate``,
        where each person found is cut out and goes through the whole network once more; and
        ``parameters``.

    Raises:
        RecipeError: the system cannot be told how many people to report.
    """
    scenes = open_dataset(Path(recipe.data)).split("test")
    pictures = [to_tensor(read_scene(scene)).to(device) for scene in scenes[: max(BATCHES)]]
    side = max(16, round(CROP_SHARE * min(pictures[0].shape[1:])))
    alone = _built(recipe, {"min_size": side, "max_size": side}).to(device).eval()
    figures: dict[str, float] = {}
    for people in PEOPLE:
        model = with_people(recipe, people).to(device).eval()
        figures["parameters"] = float(sum(p.numel() for p in model.parameters()))
        for batch in BATCHES:
            images = (pictures * batch)[:batch]
            run = _Timed(model, device, recipe.precision)
            seconds, found = run.quickest(run.detect, images)
            figures[f"ms_per_person@batch-{batch}-people-{people}"] = 1e3 * seconds / max(1, found)
            if batch == 1:
                crop = functional.interpolate(pictures[0][None], (side, side))[0]
                single = _Timed(alone, device, recipe.precision)
                more, _ = single.quickest(single.embed, [crop] * found)
                figures[f"ms_per_picture@people-{people}"] = 1e3 * seconds
                figures[f"ms_per_picture@people-{people}-separate"] = 1e3 * (seconds + more)
    return figures


def with_people(recipe: Recipe, people: int) -> PersonSearchModel:
    """The untrained system, which reports so many people in every picture.

    Raises:
        RecipeError: the system has no `max_detections` or no `score_threshold`.
    """
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


class _Timed:
    """A model's calls, timed."""

    def __init__(self, model: PersonSearchModel, device: torch.device, precision: str) -> None:
        self.model, self.device, self.precision = model, device, precision

    @torch.inference_mode()
    def detect(self, images: list[Tensor]) -> int:
        """How many people it finds in all."""
        with autocast(self.device, self.precision):
            found = self.model.detect(images)
        return sum(len(one.boxes) for one in found)

    @torch.inference_mode()
    def embed(self, crops: list[Tensor]) -> int:
        """Each crop as one person, all at once; how many there are."""
        whole = [
            torch.tensor([[0.0, 0.0, crop.shape[2], crop.shape[1]]], device=self.device)
            for crop in crops
        ]
        with autocast(self.device, self.precision):
            return len(self.model.embed(crops, whole)) if crops else 0

    def quickest(
        self, call: Callable[[list[Tensor]], int], images: list[Tensor]
    ) -> tuple[float, int]:
        """Seconds of the quickest of several calls after a first one, and what the last returned.

        Other work on the machine only ever adds to a call's time.
        """
        found = call(images)
        taken = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            found = call(images)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            taken.append(time.perf_counter() - began)
        return min(taken), found
