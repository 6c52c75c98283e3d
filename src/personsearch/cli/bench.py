"""`personsearch bench`: runs the papers' ablations and all systems again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from personsearch.cli.bench_runs import (
    check_tables,
    drawing,
    execute_runs,
    exit_failed,
    folders,
    measured_cost,
)
from personsearch.cli.options import JsonOption, print_json, print_table
from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.bench.binding import Scale
    from personsearch.bench.plan import Planner
    from personsearch.bench.tables import Section

app = typer.Typer(help="Run the papers' ablations and all systems again.", no_args_is_help=True)

_Seeds = Annotated[int, typer.Option(help="Runs of each variant, with seeds 0, 1, ...", min=1)]
_Runs = Annotated[Path, typer.Option(help="Folder of all runs; finished ones are kept.")]
_Jobs = Annotated[int, typer.Option(help="Runs at a time; they share the processors.", min=1)]
_Device = Annotated[str, typer.Option(help="'cpu', 'cuda' or 'cuda:N'.")]
_Recipes = Annotated[
    Path | None, typer.Option(help="Folder of base recipes; default: the shipped ones.")
]
_Data = Annotated[
    list[str] | None,
    typer.Option(
        help="FOLDER of the main data set, or NAME=FOLDER of one that an ablation names; "
        "repeatable. Others are drawn in the folder of runs."
    ),
]
_Scale = Annotated[
    Literal["synthetic", "paper"],
    typer.Option(help="'paper': the paper's values, on the paper's --data."),
]
_Show = Annotated[bool, typer.Option("--show", help="Run nothing; print the finished runs.")]
_AnyCode = Annotated[
    bool, typer.Option("--any-code", help="Also show results of another version of the code.")
]
_Out = Annotated[
    Path | None, typer.Option(help="Write Markdown, and pictures beside it.", dir_okay=False)
]


@app.command("list")
def list_ablations(json_output: JsonOption = False) -> None:
    """List the ablations.

    Example: personsearch bench list
    """
    from personsearch.bench.ablation import ablation_names, read_ablation

    keys = ("name", "title", "paper", "variants")
    rows = [(a.name, a.title, a.paper, len(a.shown)) for a in map(read_ablation, ablation_names())]
    if json_output:
        print_json([dict(zip(keys, row, strict=True)) for row in rows], indent=None)
    else:
        print_table(keys, [tuple(map(str, row)) for row in rows], no_wrap=("name",))


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
        str, typer.Option(help="Size of drawn data sets and of the recipes: synthetic-SIZE.")
    ] = "ablation",
    show: _Show = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the cost of the missing runs.")
    ] = False,
    any_code: _AnyCode = False,
    json_output: JsonOption = False,
    out: _Out = None,
) -> None:
    """Run what is missing of ablations, and print our metrics beside the paper's.

    Ctrl-C stops after checkpoints are written; the same command resumes.

    An ablation of your own is a .toml file like those in the package's folder
    bench/ablations; --recipes names the folder of its base recipes, --data your
    data set.

    Example: personsearch bench ablation dcinet-table-4 --seeds 5 --jobs 2

    Example: personsearch bench ablation trident-table-1 --scale paper --data PRW --device cuda

    Example: personsearch bench ablation my.toml --recipes DIR --data SET --seeds 2
    """
    from personsearch.bench import charts, report
    from personsearch.bench.ablation import ablation_names, read_ablation
    from personsearch.bench.binding import bound
    from personsearch.training.devices import choose_device

    planner = _planner(recipes, runs, size, data, show, any_code, scale)
    every = ablation_names() if names == ["all"] else names
    chosen = [bound(read_ablation(name), scale) for name in every]
    check_tables(data, chosen)
    if len(chosen) > 1:
        with drawing(planner):
            possible, problems = planner.possible_of(chosen)
        chosen = list(possible.values())
        for name, problem in problems.items():
            echo(f"left out: {name}: {problem}", err=True)
    failed = {}
    _check_out(out)
    if not show:
        device = str(choose_device(device))
        with drawing(planner):
            runs_wanted = report.wanted(planner, chosen, seeds)
        if dry_run or len(chosen) > 1:
            measured_cost(runs_wanted, planner.runs, jobs, device)
        if dry_run:
            return
        failed = execute_runs(runs_wanted, planner.runs, jobs, device)
    sections = report.sections(planner, chosen, seeds)
    _print(sections, json_output)
    for section in sections:
        for picture in charts.draw(section.ablation, section.results, planner.runs / "figures"):
            echo(f"drawn: {picture}", err=True)
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
    """Run every system's recipe; with --out, also write the finished runs of all ablations.

    Example: personsearch bench systems --set ablation --jobs 2 --out docs/results.md
    """
    from personsearch.bench import report
    from personsearch.bench.ablation import ablation_names, read_ablation, systems_table
    from personsearch.bench.binding import bound
    from personsearch.recipes import find_set
    from personsearch.training.devices import choose_device

    planner = _planner(recipes, runs, set_name, data, show, any_code)
    table = systems_table(recipes or find_set(f"synthetic-{set_name}"))
    failed = {}
    _check_out(out)
    if not show:
        device = str(choose_device(device))
        with drawing(planner):
            wanted = report.wanted(planner, [table], seeds)
        failed = execute_runs(wanted, planner.runs, jobs, device)
    sections = report.sections(planner, [table], seeds)
    _print(sections, json_output)
    parts = []
    if out is not None:
        ablations = _planner(None, runs, "ablation", None, True, any_code)
        shown = [] if set_name == "ablation" else [systems_table(find_set("synthetic-ablation"))]
        shown += [bound(read_ablation(name), "synthetic") for name in ablation_names()]
        sections += report.sections(ablations, shown, seeds)
        parts = report.whole(sections, out)
    _finish(failed, out, parts)


def _planner(
    recipes: Path | None,
    runs: Path,
    size: str,
    data: list[str] | None,
    show: bool,
    any_code: bool,
    scale: "Scale" = "synthetic",
) -> "Planner":
    from personsearch.bench.plan import Planner
    from personsearch.recipes import find_set

    if scale == "synthetic" and recipes is None:
        find_set(f"synthetic-{size}")  # an unknown size is an error also with --show
    given = folders(data, scale)
    return Planner(recipes, runs.resolve(), size, given, scale, draw=not show, any_code=any_code)


def _print(sections: "list[Section]", json_output: bool) -> None:
    from personsearch.bench import tables
    from personsearch.plots.tables import print_tables
    from personsearch.terminal import console

    if json_output:
        printed = [tables.as_json(one) for one in sections]
        print_json(printed[0] if len(printed) == 1 else printed, indent=None)
        return
    for one in sections:
        if one.problem:
            echo(f"{one.ablation.name}: not run: {one.problem}")
            continue
        print_tables(*tables.narrowed(tables.rows(one), console().width), tables.claims(one))
        lines = [f"Synthetic: {line}" for line in one.ablation.here]
        for line in (*lines, *tables.remarks(one)):
            echo(line)


def _check_out(out: Path | None) -> None:
    """Raise DataError unless the Markdown can be written, before hours of runs."""
    from personsearch.durable import make_writable
    from personsearch.errors import DataError

    try:
        if out is not None:
            make_writable(out.parent)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error}); choose another --out") from None


def _finish(failed: dict[str, str], out: Path | None, parts: list[str]) -> None:
    """Write the Markdown; exit with an error if runs failed."""
    from personsearch.plots import pages

    if out is not None:
        pages.write(out, "\n".join(parts))
        echo(f"written: {out}", err=True)
    exit_failed(failed)
