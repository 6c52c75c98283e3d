"""`personsearch demo`: from nothing to a page that shows a trained system at work."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.options import JsonOption, print_json
from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.demo.page import Page, Step


def demo(
    out: Annotated[
        Path, typer.Option(file_okay=False, help="The demo's folder; its contents are reused.")
    ] = Path("demo"),
    size: Annotated[
        str, typer.Option(help="Size of the benchmark: tiny, ablation, small or standard.")
    ] = "small",
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of pictures and training; default: 0 and the recipe's."),
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
    json_output: JsonOption = False,
) -> None:
    """Draw a benchmark, train on it, measure, and write a page with queries and their hits.

    A second call reuses what is there, and resumes an interrupted training run.

    Example: personsearch demo --out demo --size tiny
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.cli.train import ProgressListener
    from personsearch.demo.build import Display, demo_recipe, real_page, trained_page
    from personsearch.demo.folder import DemoFolder
    from personsearch.demo.page import write_page
    from personsearch.synthetic.benchmark import SIZES

    if real is not None and recipe is not None:
        raise typer.BadParameter("--real trains nothing; leave out --real or --recipe")
    if real is None and size not in SIZES:
        raise typer.BadParameter(
            f"{size!r}, expected one of {', '.join(SIZES)}", param_hint="--size"
        )
    show = Display(StepProgress, ProgressListener)
    try:
        if real is not None:
            # Before the folder is made: a wrong --real leaves nothing behind.
            page = real_page(real, show)
            folder = DemoFolder(out)
        else:
            command = ["personsearch", "demo", "--size", size]
            command += [] if seed is None else ["--seed", str(seed)]
            command += [] if recipe is None else ["--recipe", str(recipe)]
            wanted = demo_recipe(recipe, seed)
            folder = DemoFolder(out)
            page = trained_page(folder, size, seed or 0, wanted, command, show)
        steps = write_page(page, folder.page)
    except KeyboardInterrupt:
        echo("interrupted: run the same command again to resume", err=True)
        raise typer.Exit(130) from None
    (_print_json if json_output else _print)(page, steps, folder.page)


def _print(page: "Page", steps: "list[Step]", path: Path) -> None:
    from personsearch.demo.page import duration
    from personsearch.plots.tables import detection_table, print_tables, search_table

    for result in page.results:
        shown = result.compared, result.dataset.name
        print_tables(search_table(*shown), detection_table(*shown))
    for step in steps:
        earlier = ", in an earlier run" if step.earlier else ""
        echo(f"{step.name}: {duration(step.seconds)}{earlier}")
    echo(f"page: {path}")


def _print_json(page: "Page", steps: "list[Step]", path: Path) -> None:
    from dataclasses import asdict

    from personsearch.cli.evaluate import as_json

    results = [as_json(result.compared, result.dataset) for result in page.results]
    plain = {"page": str(path), "results": results, "steps": [asdict(step) for step in steps]}
    print_json(plain, indent=1)
