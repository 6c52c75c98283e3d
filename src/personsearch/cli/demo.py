"""`personsearch demo`: from nothing to a page that shows a trained system at work."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from personsearch.datasets.dataset import Dataset
    from personsearch.demo.folder import DemoFolder
    from personsearch.demo.page import Page, Result, Step
    from personsearch.systems.base import PersonSearchModel
    from personsearch.training.recipe import Recipe

HITS = 8
"""How many hits of a query are shown."""
QUERIES = 8
"""How many queries of a data set are shown."""


def demo(
    out: Annotated[
        Path, typer.Option(file_okay=False, help="The demo's folder; what is there is used.")
    ] = Path("demo"),
    size: Annotated[str, typer.Option(help="Of the benchmark: tiny, small, standard.")] = "small",
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of pictures and training; default: 0 and the recipe's."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Train this recipe instead of the packaged one.")
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Train nothing: run the networks in FOLDER/models on the frames in FOLDER.",
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draws a benchmark, trains on it, measures, and writes a page with queries and their hits.

    A second call uses what is there, and goes on with a training run that was stopped.

    Example: personsearch demo --out demo --size tiny
    """
    from personsearch.demo.folder import DemoFolder
    from personsearch.demo.page import write_page

    if real is not None and recipe is not None:
        raise typer.BadParameter("--real trains nothing; leave out one of the two")
    if real is None:
        _check_size(size)
    try:
        if real is not None:
            # Before the folder is made: a wrong --real leaves nothing behind.
            page = _real_page(real)
            folder = DemoFolder(out)
        else:
            wanted = _recipe(recipe, seed)
            folder = DemoFolder(out)
            page = _trained_page(folder, size, seed, wanted, recipe)
        steps = write_page(page, folder.page)
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    if json_output:
        _print_json(page, steps, folder.page)
    else:
        _print(page, steps, folder.page)


def _check_size(size: str) -> None:
    from personsearch.synthetic.benchmark import SIZES

    if size not in SIZES:
        raise typer.BadParameter(
            f"{size!r}, expected one of {', '.join(SIZES)}", param_hint="--size"
        )


def _recipe(path: Path | None, seed: int | None) -> "Recipe":
    from personsearch.recipes import find
    from personsearch.training.recipe import read_recipe

    recipe = read_recipe(find(path or "synthetic-small/oim"))
    return recipe if seed is None else recipe.model_copy(update={"seed": seed})


def _trained_page(
    folder: "DemoFolder", size: str, seed: int | None, recipe: "Recipe", given: Path | None
) -> "Page":
    from personsearch.cli.progress import StepProgress
    from personsearch.cli.train import ProgressListener
    from personsearch.datasets import open_dataset
    from personsearch.demo.page import Page
    from personsearch.loading import load
    from personsearch.training.devices import choose_device
    from personsearch.training.loop import read_log

    device = choose_device()
    with StepProgress() as tell:
        drawn = folder.draw(size, seed or 0, lambda done, total: tell("draw", done, total))
    dataset = open_dataset(folder.data)
    with ProgressListener() as listener:
        trained = folder.train(recipe, dataset, device, listener)
    names = list(dataset.protocols)
    names = [name for name in names if name == names[0] or name == "all"]
    thresholds = (recipe.eval_score_threshold, 0.05)
    result, measured = _measure(
        load(folder.run, device), dataset, names, thresholds, recipe.precision
    )
    people = len({int(i) for scene in dataset.split("test") for i in scene.ids if i >= 0})
    command = ["personsearch", "demo", "--size", size]
    command += [] if seed is None else ["--seed", str(seed)]
    command += [] if given is None else ["--recipe", str(given)]
    return Page(
        title="personsearch: find a person in whole pictures",
        summary=(
            f"A network drew boxes around everyone in {len(dataset.split('test'))} pictures and "
            "ranked them by likeness to one example of a person; the pictures are synthetic, and "
            f"it saw none of their {people} people in training."
        ),
        results=[result],
        log=read_log(folder.run / "log.jsonl"),
        steps=[drawn, *trained, *measured],
        machine=_machine(device),
        command=shlex.join(command),
        recipe=recipe.to_toml(),
    )


def _real_page(real: Path) -> "Page":
    from personsearch.datasets.real_samples import networks, read_real_samples
    from personsearch.demo.page import Page
    from personsearch.demo.real_frames import sample_networks

    datasets = read_real_samples(real)
    model = sample_networks(real)
    results, steps = [], []
    for dataset in datasets:
        result, measured = _measure(model, dataset, list(dataset.protocols)[:1], (0.5, 0.3, 0.05))
        results.append(result)
        steps += measured
    used = " and ".join(path.stem for path in networks(real))
    pictures = sum(len(dataset.split("test")) for dataset in datasets)
    return Page(
        title="personsearch: find a person in whole pictures",
        summary=(
            f"Two published networks, {used}, found everyone in {pictures} real frames and ranked "
            "them by likeness to one example of a person; samples this small show that the parts "
            "work together, they rank no system."
        ),
        results=results,
        log=[],
        steps=steps,
        machine=_machine("cpu"),
        command=shlex.join(["personsearch", "demo", "--real", str(real)]),
    )


def _measure(
    model: "PersonSearchModel",
    dataset: "Dataset",
    protocols: list[str],
    thresholds: tuple[float, ...],
    precision: str = "auto",
) -> "tuple[Result, list[Step]]":
    import time

    from personsearch.cli.progress import StepProgress
    from personsearch.demo.page import Result, Step
    from personsearch.demo.showcase import choose_examples
    from personsearch.evaluation.comparison import compare

    began = time.perf_counter()
    with StepProgress() as tell:
        compared = compare(
            model,
            dataset,
            protocols,
            score_thresholds=list(dict.fromkeys(thresholds)),
            ranked=HITS,
            precision=precision,
            progress=tell,
        )
    seconds = time.perf_counter() - began
    shown = dataset.protocol(protocols[0])
    examples = choose_examples(shown, compared.row(protocols[0]).search, QUERIES)
    detected = compared.seconds["detect"]
    return Result(dataset, compared, examples), [
        Step(f"detect everyone, {dataset.name}", detected),
        Step(f"evaluate, with its bounds, {dataset.name}", seconds - detected),
    ]


def _machine(device: object) -> dict[str, str]:
    import os
    import platform
    from importlib.metadata import version

    import torch

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


def _print(page: "Page", steps: "list[Step]", path: Path) -> None:
    from personsearch.demo.page import duration
    from personsearch.plots.tables import detection_table, print_tables, search_table

    for result in page.results:
        print_tables(
            search_table(result.compared, result.dataset.name),
            detection_table(result.compared, result.dataset.name),
        )
    for step in steps:
        earlier = ", in an earlier run" if step.earlier else ""
        typer.echo(f"{step.name}: {duration(step.seconds)}{earlier}")
    typer.echo(f"page: {path}")


def _print_json(page: "Page", steps: "list[Step]", path: Path) -> None:
    import json
    from dataclasses import asdict

    from personsearch.cli.evaluate import figures

    report: dict[str, Any] = {
        "page": str(path),
        "results": [figures(result.compared, result.dataset) for result in page.results],
        "steps": [asdict(step) for step in steps],
    }
    typer.echo(json.dumps(report, indent=1))
