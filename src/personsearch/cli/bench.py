"""`personsearch bench`: runs the papers' ablations and all systems again."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from personsearch.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.progress import TaskID

    from personsearch.bench.ablation import Ablation
    from personsearch.bench.execute import State
    from personsearch.bench.plan import Planner
    from personsearch.bench.tables import Section

app = typer.Typer(
    help="Run the papers' ablations and all systems again.",
    no_args_is_help=True,
)

_Seeds = Annotated[int, typer.Option(help="Runs of each variant, with seeds 0, 1, ...", min=1)]
_Runs = Annotated[Path, typer.Option(help="Folder of all runs; what is finished there is kept.")]
_Jobs = Annotated[int, typer.Option(help="Runs side by side; they share the processors.", min=1)]
_Device = Annotated[str, typer.Option(help="'cpu', 'cuda' or 'cuda:N'.")]
_Recipes = Annotated[
    Path | None, typer.Option(help="Folder of base recipes; default: the shipped ones.")
]
_Data = Annotated[
    list[str] | None,
    typer.Option(
        help="FOLDER of the main data set, or NAME=FOLDER of one that an ablation names; "
        "repeatable. Synthetic ones that are not given are drawn below the runs."
    ),
]
_Scale = Annotated[
    str, typer.Option(help="'synthetic', or 'paper': the paper's values on the paper's --data.")
]
_Show = Annotated[bool, typer.Option("--show", help="Run nothing, print what is there.")]
_AnyCode = Annotated[
    bool, typer.Option("--any-code", help="Show results that other code made where ours are none.")
]
_Out = Annotated[Path | None, typer.Option(help="Write Markdown, and pictures beside it.")]


@app.command("list")
def list_ablations(json_output: JsonOption = False) -> None:
    """List the ablations.

    Example: personsearch bench list
    """
    from personsearch.bench.ablation import ablation_names, read_ablation
    from personsearch.plots.tables import TextTable, print_tables

    keys = ("name", "title", "paper", "variants")
    rows = [(a.name, a.title, a.paper, len(a.shown)) for a in map(read_ablation, ablation_names())]
    if json_output:
        typer.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
        return
    header = ("name", "what it compares", "paper", "variants")
    print_tables(TextTable("ablations", header, [tuple(map(str, row)) for row in rows]))


@app.command("ablation")
def ablation(
    names: Annotated[
        list[str], typer.Argument(help="Names, see 'bench list'; .toml files; or 'all'.")
    ],
    seeds: _Seeds = 5,
    runs: _Runs = Path("runs/bench"),
    jobs: _Jobs = 1,
    device: _Device = "cpu",
    recipes: _Recipes = None,
    data: _Data = None,
    scale: _Scale = "synthetic",
    size: Annotated[
        str, typer.Option(help="Of drawn data sets, and of the recipes' folder: SET.")
    ] = "ablation",
    show: _Show = False,
    any_code: _AnyCode = False,
    json_output: JsonOption = False,
    out: _Out = None,
) -> None:
    """Run what is missing of an ablation; prints our metrics beside the paper's.

    Ctrl-C stops after checkpoints are written; the same command goes on. An ablation of your own
    is a .toml file like the shipped ones in the folder bench/ablations of the package; --recipes
    names the folder of its base recipes, --data your data set.

    Example: personsearch bench ablation dcinet-table-4 --seeds 5 --jobs 2

    Example: personsearch bench ablation trident-table-1 --scale paper --data PRW --device cuda

    Example: personsearch bench ablation my.toml --recipes DIR --data SET --seeds 2
    """
    from personsearch.bench.ablation import ablation_names, read_ablation
    from personsearch.bench.binding import bound
    from personsearch.errors import RecipeError

    planner = _planner(recipes, runs, size, data, show, any_code, scale)
    every = ablation_names() if names == ["all"] else names
    chosen = [bound(read_ablation(name), planner.scale) for name in every]
    for one in chosen if len(chosen) > 1 else ():
        try:
            planner.check(one)
        except RecipeError as error:
            typer.echo(f"left out: {one.name}: {error}", err=True)
            chosen = [other for other in chosen if other is not one]
    failed = {} if show else _execute(planner, chosen, seeds, jobs, device)
    from personsearch.bench import charts, report

    sections = report.sections(planner, chosen, seeds)
    _print(sections, json_output)
    for section in sections:
        for picture in charts.draw(section.ablation, section.results, planner.runs / "figures"):
            typer.echo(f"drawn: {picture}", err=True)
    _finish(failed, out, [report.document(section, out) for section in sections if out])


@app.command("systems")
def systems(
    set_name: Annotated[
        str, typer.Option("--set", help="The shipped recipes synthetic-SET, and data of that size.")
    ] = "small",
    seeds: _Seeds = 3,
    runs: _Runs = Path("runs/bench"),
    jobs: _Jobs = 1,
    device: _Device = "cpu",
    recipes: _Recipes = None,
    data: _Data = None,
    show: _Show = False,
    any_code: _AnyCode = False,
    json_output: JsonOption = False,
    out: _Out = None,
) -> None:
    """Run every system's recipe; with --out also writes what is there of all ablations.

    Example: personsearch bench systems --set ablation --jobs 2 --out docs/results.md
    """
    from personsearch.bench import report
    from personsearch.bench.ablation import ablation_names, read_ablation, systems_table
    from personsearch.bench.binding import bound
    from personsearch.recipes import find_set

    planner = _planner(recipes, runs, set_name, data, show, any_code)
    table = systems_table(recipes or find_set(f"synthetic-{set_name}"))
    failed = {} if show else _execute(planner, [table], seeds, jobs, device)
    sections = report.sections(planner, [table], seeds)
    _print(sections, json_output)
    parts = []
    if out is not None:
        parts = [report.HEAD, *(report.document(one, out) for one in sections)]
        ablations = _planner(None, runs, "ablation", None, True, any_code)
        shown = [] if set_name == "ablation" else [systems_table(find_set("synthetic-ablation"))]
        shown += [bound(read_ablation(name), "synthetic") for name in ablation_names()]
        parts += [report.document(one, out) for one in report.sections(ablations, shown, seeds)]
    _finish(failed, out, parts)


def _planner(
    recipes: Path | None,
    runs: Path,
    size: str,
    data: list[str] | None,
    show: bool,
    any_code: bool,
    scale: str = "synthetic",
) -> "Planner":
    from personsearch.bench.binding import Scale
    from personsearch.bench.plan import Planner
    from personsearch.recipes import find_set

    if scale not in get_args(Scale):
        raise typer.BadParameter(
            f"{scale!r}; expected 'synthetic' or 'paper'", param_hint="--scale"
        )
    if scale == "synthetic" and recipes is None:
        find_set(f"synthetic-{size}")
    return Planner(
        recipes,
        runs.resolve(),
        size,
        folders(data),
        cast(Scale, scale),
        draw=not show,
        any_code=any_code,
    )


def folders(data: list[str] | None) -> dict[str, Path]:
    """Return the data sets of ``FOLDER`` and ``NAME=FOLDER``; the main one is ``main``."""
    known: dict[str, Path] = {}
    for given in data or ():
        name, equals, folder = given.partition("=")
        if not equals or Path(given).exists():
            name, folder = "main", given
        if name in known:
            raise typer.BadParameter(f"{name!r} is given twice", param_hint="--data")
        known[name] = Path(folder)
    return known


def _execute(
    planner: "Planner", chosen: "list[Ablation]", seeds: int, jobs: int, device: str
) -> dict[str, str]:
    # What prints the results is loaded before hours of runs, and not after.
    from personsearch.bench import charts, report, tables  # noqa: F401
    from personsearch.bench.execute import execute
    from personsearch.cli.progress import StepProgress

    with StepProgress() as steps:
        planner.progress = steps.step("drawing scenes")
        wanted = report.wanted(planner, chosen, seeds)
    progress = _Progress()
    try:
        with progress.bars:
            return execute(wanted, planner.runs, jobs=jobs, device=device, listener=progress.show)
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command goes on from the last checkpoints", err=True)
        raise typer.Exit(130) from None


def _print(sections: "list[Section]", json_output: bool) -> None:
    from rich.console import Console

    from personsearch.bench import tables
    from personsearch.plots.tables import print_tables

    if json_output:
        printed = [tables.as_json(one) for one in sections]
        typer.echo(json.dumps(printed[0] if len(printed) == 1 else printed))
        return
    for one in sections:
        if one.problem:
            typer.echo(f"{one.ablation.name}: not run: {one.problem}")
            continue
        print_tables(*tables.narrowed(tables.rows(one), Console().width), tables.claims(one))
        lines = [f"Synthetic: {line}" for line in one.ablation.here]
        for line in (*lines, *tables.remarks(one)):
            typer.echo(line)


def _finish(failed: dict[str, str], out: Path | None, parts: list[str]) -> None:
    """Write the Markdown; exit with an error if runs failed."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("\n".join(parts), encoding="utf-8")
        typer.echo(f"written: {out}", err=True)
    if failed:
        typer.echo(f"error: {len(failed)} runs failed; the same command tries them again", err=True)
        raise typer.Exit(1)


class _Progress:
    """A bar over all runs with the time left, and one for each that is in progress."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._all = self.bars.add_task("runs", total=None, detail="")
        self._each: dict[str, TaskID] = {}
        self._told = 0  # failures printed; new ones come last

    def show(self, state: "State") -> None:
        """Update the bars, and print each failure once."""
        detail = f"{len(state.failed)} failed " if state.failed else ""
        if state.seconds_left is not None:
            detail += f"about {math.ceil(state.seconds_left / 60)} min left"
        self.bars.update(self._all, completed=state.finished, total=state.total, detail=detail)
        for name in self._each.keys() - state.running.keys():
            self.bars.remove_task(self._each.pop(name))
        for name, (step, done, total) in state.running.items():
            if name not in self._each:
                self._each[name] = self.bars.add_task(name, detail="")
            self.bars.update(self._each[name], completed=done, total=total or None, detail=step)
        for name, why in list(state.failed.items())[self._told :]:
            self.bars.console.print(f"failed: {name}: {why}", style="red", markup=False)
        self._told = len(state.failed)
