"""`personsearch reproduce`: one paper whole, on one page."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from personsearch.cli.bench_runs import (
    check_tables,
    drawing,
    execute_runs,
    exit_failed,
    folders,
    measured_cost,
)
from personsearch.terminal import echo


def reproduce(
    paper: Annotated[
        str,
        typer.Argument(
            help="'xiao' (2016), 'dcinet' (Zhang 2019), 'rdlr' (Han 2019), 'loesch' (2019) or "
            "'trident' (Han 2021)."
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="FOLDER of CUHK-SYSU or PRW, or NAME=FOLDER of another data set that a table "
            "names; repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of runs and page; default: reproduce/PAPER.", file_okay=False),
    ] = None,
    scale: Annotated[
        Literal["paper", "synthetic"],
        typer.Option(help="'synthetic': small, on drawn people, without --data."),
    ] = "paper",
    size: Annotated[str, typer.Option(help="Size of drawn data sets.")] = "ablation",
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Runs of each row; default: 1, or 5 synthetic. Claims need 5."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    device: Annotated[str, typer.Option(help="'cpu', 'cuda' or 'cuda:N'; default: a GPU.")] = "",
    recipes: Annotated[
        Path | None, typer.Option(help="Folder of base recipes; default: the shipped ones.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the cost.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it begins.")] = False,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Show runs of another version of the code as well.")
    ] = False,
) -> None:
    """Run every table and figure of a paper and write one page: the paper's numbers beside ours.

    Prints the number of runs and hours first. Ctrl-C stops after checkpoints are written; the same
    command resumes. The page lists what is missing.

    Example: personsearch reproduce trident --data PRW --device cuda --out reproduce/trident
    """
    from personsearch.bench import report
    from personsearch.bench import reproduce as bench
    from personsearch.bench.plan import Planner
    from personsearch.training.devices import choose_device

    device = str(choose_device(device))
    out = out or Path("reproduce") / paper
    count = seeds or (1 if scale == "paper" else 5)
    runs = (out / "runs").resolve()
    planner = Planner(recipes, runs, size, folders(data, scale), scale, any_code=any_code)
    with drawing(planner):
        plan = bench.plan(planner, paper, count)
    check_tables(data, plan.ablations)
    for problem in plan.problems.values():
        echo(f"left out: {problem}", err=True)
    if old := bench.of_other_code(plan.runs, runs):
        echo(
            f"{old} finished runs in {runs} are of another version of the code; they are made "
            "again, and --any-code shows them meanwhile",
            err=True,
        )
    bench.check_place(plan.paper, out)
    cost = measured_cost(plan.runs, runs, jobs, device)
    bench.check_disk(cost, runs)
    if dry_run:
        return
    if cost.runs and not yes:
        typer.confirm("Begin? (--yes does not ask)", abort=True, err=True)
    failed: dict[str, str] = {}
    try:
        failed = execute_runs(plan.runs, runs, jobs, device)
    finally:
        sections = report.sections(planner, plan.ablations, count)
        page = bench.write_page(planner, plan.paper, sections, count, out)
        echo(f"page: {page}")
    exit_failed(failed)
