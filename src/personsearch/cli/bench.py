"""`personsearch bench`: runs the papers' ablations and all systems again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from personsearch.cli.bench_runs import execute_runs, folders, measured_cost, planned, possible
from personsearch.cli.options import JsonOption

if TYPE_CHECKING:
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the missing runs will cost.")
    ] = False,
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

    planner = _planner(recipes, runs, size, data, show, any_code, scale)
    every = ablation_names() if names == ["all"] else names
    chosen = [bound(read_ablation(name), planner.scale) for name in every]
    if len(chosen) > 1:
        chosen = possible(planner, chosen)
    from personsearch.bench import charts, report

    failed = {}
    if not show:
        runs_wanted = planned(planner, chosen, seeds)
        if dry_run or len(chosen) > 1:
            measured_cost(runs_wanted, planner.runs, jobs, device)
        if dry_run:
            return
        failed = execute_runs(runs_wanted, planner.runs, jobs, device)
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
    failed = {}
    if not show:
        failed = execute_runs(planned(planner, [table], seeds), planner.runs, jobs, device)
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
        folders(data, cast(Scale, scale)),
        cast(Scale, scale),
        draw=not show,
        any_code=any_code,
    )


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
