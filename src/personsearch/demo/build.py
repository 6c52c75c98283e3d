"""The demo from end to end: draw, train and measure, or measure published networks."""

import os
import platform
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from personsearch.datasets import open_dataset
from personsearch.datasets.dataset import Dataset
from personsearch.demo.folder import DemoFolder
from personsearch.demo.page import Page, Result, Step
from personsearch.demo.real_samples import networks, read_real_samples, sample_networks
from personsearch.demo.showcase import choose_examples
from personsearch.evaluation.comparison import Progress, compare
from personsearch.loading import load
from personsearch.recipes import find
from personsearch.systems.base import PersonSearchModel
from personsearch.training.devices import choose_device
from personsearch.training.loop import read_log
from personsearch.training.recipe import Recipe, read_recipe
from personsearch.training.report import Listener

HITS = 8
"""Hits shown of each query."""
QUERIES = 8
"""Queries shown of each data set."""

TITLE = "personsearch: find a person in whole pictures"


@dataclass(frozen=True)
class Display:
    """How progress is shown: each attribute opens a display and gives what reports to it."""

    steps: Callable[[], AbstractContextManager[Progress]]
    training: Callable[[], AbstractContextManager[Listener]]


def demo_recipe(path: Path | None, seed: int | None) -> Recipe:
    """Read the recipe of the demo, or the given file or shipped recipe; `seed` replaces its seed.

    Raises:
        RecipeError: there is no such recipe, or it is not valid.
    """
    recipe = read_recipe(find(path or "synthetic-small/oim"))
    return recipe if seed is None else recipe.model_copy(update={"seed": seed})


def trained_page(
    folder: DemoFolder, size: str, seed: int, recipe: Recipe, command: Sequence[str], show: Display
) -> Page:
    """Draw the benchmark, train on it, and measure what was trained.

    Complete pictures and checkpoints in `folder` are reused. `size` is that of the benchmark, a key
    of `synthetic.benchmark.SIZES`; `command` makes this page again.

    Raises:
        KeyboardInterrupt: after a checkpoint was written.
    """
    device = choose_device()
    with show.steps() as progress:
        drawn = folder.draw(size, seed, lambda done, total: progress("draw", done, total))
    dataset = open_dataset(folder.data)
    with show.training() as listener:
        trained = folder.train(recipe, dataset, device, listener)
    first, *others = dataset.protocols
    protocols = [first, *(name for name in others if name == "all")]
    model = load(folder.run, device)
    thresholds = (recipe.eval_score_threshold, 0.05)
    result, measured = _measure(model, dataset, protocols, thresholds, show, recipe.precision)
    scenes = dataset.split("test")
    people = len({int(i) for scene in scenes for i in scene.ids if i >= 0})
    return Page(
        title=TITLE,
        summary=(
            f"A network drew boxes around everyone in {len(scenes)} pictures and ranked them by "
            "similarity to one example of a person; the pictures are synthetic, and it saw none "
            f"of their {people} people in training."
        ),
        results=[result],
        log=read_log(folder.run / "log.jsonl"),
        steps=[drawn, *trained, *measured],
        machine=_machine(device),
        command=shlex.join(command),
        recipe=recipe.to_toml(),
    )


def real_page(real: Path, show: Display) -> Page:
    """Measure the networks in ``models`` of a folder of real samples on its frames.

    Raises:
        DataError: there are no samples, or damaged ones.
        ModelError: there are no networks, or one fails.
    """
    datasets = read_real_samples(real)
    model = sample_networks(real)
    results, steps = [], []
    for dataset in datasets:
        protocols = list(dataset.protocols)[:1]
        result, measured = _measure(model, dataset, protocols, (0.5, 0.3, 0.05), show)
        results.append(result)
        steps += measured
    used = " and ".join(path.stem for path in networks(real))
    pictures = sum(len(dataset.split("test")) for dataset in datasets)
    return Page(
        title=TITLE,
        summary=(
            f"Two published networks, {used}, found everyone in {pictures} real frames and ranked "
            "them by similarity to one example of a person; samples this small show that the "
            "parts work together, they rank no system."
        ),
        results=results,
        log=[],
        steps=steps,
        machine=_machine("cpu"),
        command=shlex.join(["personsearch", "demo", "--real", str(real)]),
    )


def _measure(
    model: PersonSearchModel,
    dataset: Dataset,
    protocols: list[str],
    thresholds: tuple[float, ...],
    show: Display,
    precision: str = "auto",
) -> tuple[Result, list[Step]]:
    """Measure under all protocols; the examples are queries of the first."""
    began = time.perf_counter()
    with show.steps() as progress:
        compared = compare(
            model,
            dataset,
            protocols,
            score_thresholds=list(dict.fromkeys(thresholds)),
            ranked=HITS,
            precision=precision,
            progress=progress,
        )
    seconds = time.perf_counter() - began
    search = compared.row(protocols[0]).search
    examples = choose_examples(dataset.protocol(protocols[0]), search, QUERIES)
    detected = compared.seconds["detect"]
    return Result(dataset, compared, examples), [
        Step(f"detect everyone, {dataset.name}", detected),
        Step(f"evaluate, with its bounds, {dataset.name}", seconds - detected),
    ]


def _machine(device: object) -> dict[str, str]:
    where = str(device)
    name = torch.cuda.get_device_name(where) if where.startswith("cuda") else platform.machine()
    return {
        "device": f"{where}, {name}",
        "processor cores": str(os.cpu_count()),
        "threads of PyTorch": str(torch.get_num_threads()),
        "PyTorch": torch.__version__,
        "Python": platform.python_version(),
        "personsearch": version("personsearch"),
    }
