"""`personsearch bench`: runs the papers' ablations and all systems again on synthetic scenes."""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from personsearch.bench.ablation import Ablation
    from personsearch.bench.execute import State
    from personsearch.bench.plan import Planner

app = typer.Typer(
    help="Runs the papers' ablations and all systems again on synthetic scenes.",
    no_args_is_help=True,
)

_Seeds = Annotated[int, typer.Option(help="Runs of each variant, with seeds 0, 1, ...", min=1)]
_Runs = Annotated[Path, typer.Option(help="Folder of all runs; what is finished there is kept.")]
_Jobs = Annotated[int, typer.Option(help="Runs side by side; they share the processors.", min=1)]
_Device = Annotated[str, typer.Option(help="'cpu', 'cuda' or 'cuda:N'.")]
_Recipes = Annotated[
    Path | None, typer.Option(help="Folder of base recipes; default: the shipped synthetic-SET.")
]
_Data = Annotated[
    Path | None, typer.Option(help="The main data set; default: drawn below the runs.")
]
_Show = Annotated[bool, typer.Option("--show", help="Run nothing, print what is there.")]
_AnyCode = Annotated[
    bool, typer.Option("--any-code", help="Show results that other code made where ours are none.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Out = Annotated[Path | None, typer.Option(help="Write Markdown, and pictures beside it.")]


@app.command("list")
def list_ablations(json_output: _Json = False) -> None:
    """Lists the ablations.

    Example: personsearch bench list
    """
    from personsearch.bench.ablation import ablation_names, read_ablation

    ablations = [read_ablation(name) for name in ablation_names()]
    if json_output:
        rows = [
            {"name": a.name, "title": a.title, "paper": a.paper, "variants": len(a.shown)}
            for a in ablations
        ]
        typer.echo(json.dumps(rows))
        return
    from personsearch.plots.tables import TextTable, print_tables

    print_tables(
        TextTable(
            "ablations",
            ("name", "what it compares", "paper", "variants"),
            [(a.name, a.title, a.paper, str(len(a.shown))) for a in ablations],
        )
    )


@app.command("ablation")
def ablation(
    names: Annotated[
        list[str], typer.Argument(help="Names, see 'bench list'; .toml files; or 'all'.")
    ],
    seeds: _Seeds = 3,
    runs: _Runs = Path("runs/bench"),
    jobs: _Jobs = 1,
    device: _Device = "cpu",
    recipes: _Recipes = None,
    data: _Data = None,
    size: Annotated[
        str, typer.Option(help="Of drawn data sets, and of the recipes' folder: SET.")
    ] = "ablation",
    show: _Show = False,
    any_code: _AnyCode = False,
    json_output: _Json = False,
    out: _Out = None,
) -> None:
    """Runs what is missing of an ablation; prints our figures beside the paper's.

    Ctrl-C stops after checkpoints are written; the same command goes on.

    Example: personsearch bench ablation dcinet-table-4 --seeds 3 --jobs 2
    """
    from personsearch.bench.ablation import ablation_names, read_ablation

    chosen = [read_ablation(name) for name in (ablation_names() if names == ["all"] else names)]
    planner = _planner(recipes, runs, size, data, show, any_code)
    if len(chosen) > 1:
        chosen = [one for one in chosen if _can_be_planned(planner, one)]
    failed = {} if show else _execute(planner, chosen, seeds, jobs, device)
    _print(planner, chosen, seeds, json_output)
    _draw(planner, chosen, seeds)
    if out is not None:
        from personsearch.bench import report

        parts = [report.document(planner, one, seeds, out) for one in chosen]
        _write(out, "\n".join(parts))
    _exit(failed)


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
    json_output: _Json = False,
    out: _Out = None,
) -> None:
    """Runs every system's recipe; with --out also writes what is there of all ablations.

    Example: personsearch bench systems --set ablation --jobs 2 --out docs/results.md
    """
    from personsearch.bench.systems import systems_table

    planner = _planner(recipes, runs, set_name, data, show, any_code)
    table = systems_table(planner.recipes)
    failed = {} if show else _execute(planner, [table], seeds, jobs, device)
    _print(planner, [table], seeds, json_output)
    if out is not None:
        from personsearch.bench import report
        from personsearch.bench.ablation import ablation_names, read_ablation

        parts = [report.HEAD, report.document(planner, table, seeds, out)]
        ablations = _planner(None, runs, "ablation", None, True, any_code)
        if set_name != "ablation":
            smaller = systems_table(ablations.recipes)
            parts.append(report.document(ablations, smaller, seeds, out))
        parts += [
            report.document(ablations, read_ablation(name), seeds, out) for name in ablation_names()
        ]
        _write(out, "\n".join(parts))
    _exit(failed)


def _planner(
    recipes: Path | None, runs: Path, size: str, data: Path | None, show: bool, any_code: bool
) -> "Planner":
    from personsearch.bench.plan import Planner
    from personsearch.recipes import find_set

    folder = recipes or find_set(f"synthetic-{size}")
    return Planner(folder, runs.resolve(), size, data, draw=not show, any_code=any_code)


def _can_be_planned(planner: "Planner", one: "Ablation") -> bool:
    """Whether every variant is a recipe; says why not."""
    from personsearch.errors import RecipeError

    try:
        for variant in one.variant:
            planner.values(one, variant, 0)
    except RecipeError as error:
        typer.echo(f"left out: {one.name}: {error}", err=True)
        return False
    return True


def _execute(
    planner: "Planner", chosen: "list[Ablation]", seeds: int, jobs: int, device: str
) -> dict[str, str]:
    # What prints the results is loaded before hours of runs, and not after.
    from personsearch.bench import charts, report, tables  # noqa: F401
    from personsearch.bench.execute import execute
    from personsearch.cli.progress import StepProgress

    with StepProgress() as steps:
        planner.progress = lambda done, total: steps("drawing scenes", done, total)
        wanted = report.wanted(planner, chosen, seeds)
    with _Progress() as progress:
        try:
            return execute(wanted, planner.runs, jobs=jobs, device=device, listener=progress.show)
        except KeyboardInterrupt:
            progress.close()
            typer.echo("interrupted: the same command goes on from the last checkpoints", err=True)
            raise typer.Exit(130) from None


def _print(planner: "Planner", chosen: "list[Ablation]", seeds: int, json_output: bool) -> None:
    from personsearch.bench import report, tables

    printed: list[dict[str, Any]] = []
    for one in chosen:
        known, floor = report.results(planner, one, seeds), report.floor(planner, one)
        if json_output:
            printed.append(tables.as_json(one, known, floor))
            continue
        from rich.console import Console

        from personsearch.plots.tables import print_tables

        section = tables.section(one, known, floor)
        print_tables(*tables.narrowed(section.table, Console().width), section.claims)
        if not math.isnan(floor):
            typer.echo(f"colour alone on true boxes: mAP {100 * floor:.1f} %")
        for remark in section.remarks:
            typer.echo(remark)
    if json_output:
        typer.echo(json.dumps(printed[0] if len(printed) == 1 else printed))


def _draw(planner: "Planner", chosen: "list[Ablation]", seeds: int) -> None:
    from personsearch.bench import charts, report

    for one in chosen:
        known = report.results(planner, one, seeds)
        for picture in charts.draw(one, known, planner.runs / "figures"):
            typer.echo(f"drawn: {picture}", err=True)


def _write(out: Path, text: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    typer.echo(f"written: {out}", err=True)


def _exit(failed: dict[str, str]) -> None:
    if failed:
        typer.echo(f"error: {len(failed)} runs failed; the same command tries them again", err=True)
        raise typer.Exit(1)


class _Progress:
    """A bar over all runs with the time left, and one for each that is in progress."""

    def __enter__(self) -> "_Progress":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            transient=True,
        )
        self._bars.start()
        self._all = self._bars.add_task("runs", total=None, detail="")
        self._each: dict[str, Any] = {}
        self._told: set[str] = set()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bars off the screen."""
        self._bars.stop()

    def show(self, state: "State") -> None:
        """Brings the bars up to date, and prints a failure once."""
        detail = f"{len(state.failed)} failed " if state.failed else ""
        if state.seconds_left is not None:
            detail += f"about {math.ceil(state.seconds_left / 60)} min left"
        self._bars.update(self._all, completed=state.finished, total=state.total, detail=detail)
        for name in [name for name in self._each if name not in state.running]:
            self._bars.remove_task(self._each.pop(name))
        for name, (step, done, total) in state.running.items():
            if name not in self._each:
                self._each[name] = self._bars.add_task(name, detail="")
            self._bars.update(self._each[name], completed=done, total=total or None, detail=step)
        for name, why in state.failed.items():
            if name not in self._told:
                self._told.add(name)
                self._console.print(f"failed: {name}: {why}", style="red", markup=False)
