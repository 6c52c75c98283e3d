"""`personsearch data`: make, examine, convert and count data sets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.cli.options import JsonOption, print_json
from personsearch.cli.progress import StepProgress
from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.datasets.dataset import Dataset, Dropped
    from personsearch.datasets.stats import SplitStatistics

app = typer.Typer(help="Make, examine, convert and count data sets.", no_args_is_help=True)

_Path = Annotated[Path, typer.Argument(help="The data set: a folder, or a COCO style .json file.")]
_Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="scenes, coco, cuhk-sysu, prw, market-1501, mot, mot-detection, wider-pedestrian, "
        "crowdhuman or folder; default: detected.",
    ),
]
_Pictures = Annotated[
    Path | None, typer.Option(help="The folder of the pictures, if COCO files are elsewhere.")
]


@app.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    size: Annotated[str, typer.Option(help="tiny, ablation, small or standard.")] = "small",
    seed: Annotated[int, typer.Option(help="The same seed draws the same bytes.")] = 0,
    layout: Annotated[
        Path | None, typer.Option(help="A COCO style file whose boxes, ids and cameras are drawn.")
    ] = None,
    object_class: Annotated[
        str, typer.Option("--class", help="The object class: person, tattoo, ...")
    ] = "person",
    workers: Annotated[
        int | None, typer.Option(help="Processes that draw; default: one per core.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Draw the synthetic benchmark, in the scenes format.

    Example: personsearch data synth synth --size small --seed 0
    """
    from personsearch.datasets.stats import statistics
    from personsearch.synthetic.benchmark import make_benchmark

    with StepProgress() as bars:
        dataset = make_benchmark(
            out,
            size=size,
            seed=seed,
            layout=layout,
            object_class=object_class,
            workers=workers,
            progress=bars.step("drawing"),
        )
    _print_statistics(dataset, statistics(dataset), json_output)


@app.command("doctor")
def doctor(
    path: _Path,
    format: _Format = None,
    pictures: _Pictures = None,
    headers: Annotated[
        bool, typer.Option("--headers", help="Read only the headers of pictures: much quicker.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Look for what is missing, damaged, doubled or contradictory. Exits 1 if there are errors.

    Example: personsearch data doctor PRW
    """
    from dataclasses import asdict

    from personsearch.datasets import open_dataset
    from personsearch.datasets.doctor import examine

    dataset = open_dataset(path, format, pictures)
    with StepProgress() as bars:
        findings = examine(dataset, decode=not headers, progress=bars.step("pictures"))
    errors = sum(finding.severity == "error" for finding in findings)
    if json_output:
        report = {"name": dataset.name, "findings": [asdict(finding) for finding in findings]}
        print_json(report, indent=None)
    else:
        for finding in findings:
            echo(f"{finding.severity}: {finding.what} ({finding.count:,})")
            for example in finding.examples:
                echo(f"    {example}")
            echo(f"    -> {finding.advice}")
        echo(f"{dataset.name}: {_verdict(dataset, Counter(f.severity for f in findings))}")
    if errors:
        raise typer.Exit(1)


@app.command("convert")
def convert(
    path: _Path,
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    to: Annotated[str, typer.Option("--to", help="scenes, cuhk-sysu or prw.")],
    format: _Format = None,
    pictures: _Pictures = None,
    json_output: JsonOption = False,
) -> None:
    """Write a data set and its pictures in another format, and report what was left out.

    Example: personsearch data convert PRW prw-scenes --to scenes
    """
    from personsearch.datasets import open_dataset
    from personsearch.datasets.convert import convert as write

    dataset = open_dataset(path, format, pictures)
    with StepProgress() as bars:
        dropped = write(dataset, out, to, progress=bars.step("pictures"))
    counts = {"not read": _reasons(dataset.dropped), "not written": _reasons(dropped)}
    if json_output:
        print_json({"name": dataset.name, "out": str(out), "format": to} | counts, indent=None)
        return
    for kind, reasons in counts.items():
        for reason, count in reasons.items():
            echo(f"{kind}: {reason} ({count:,})")
    echo(f"{dataset.name}: {sum(map(len, dataset.splits.values())):,} pictures in {out}")


@app.command("stats")
def stats(
    path: _Path,
    format: _Format = None,
    pictures: _Pictures = None,
    plot: Annotated[Path | None, typer.Option(help="Save histograms here (.png, .pdf).")] = None,
    json_output: JsonOption = False,
) -> None:
    """Count pictures, boxes and identities, and measure people.

    Example: personsearch data stats CUHK-SYSU --plot cuhk.png
    """
    from personsearch.datasets import open_dataset
    from personsearch.datasets.stats import statistics

    dataset = open_dataset(path, format, pictures)
    splits = statistics(dataset)
    if plot is not None:
        from personsearch.plots.statistics import plot_statistics

        plot_statistics(splits, plot, dataset.name)
    _print_statistics(dataset, splits, json_output)


def _reasons(dropped: "Sequence[Dropped]") -> dict[str, int]:
    return dict(Counter(entry.reason for entry in dropped))


def _verdict(dataset: "Dataset", found: Mapping[str, int]) -> str:
    scenes = sum(map(len, dataset.splits.values()))
    boxes = sum(len(scene.boxes) for scene in dataset)
    kind = "people" if dataset.object_class == "person" else "boxes"
    where = f"in {scenes:,} scenes, {boxes:,} {kind}"
    if not found:
        return f"No problems found {where}."
    counts = ", ".join(f"{severity}s: {found[severity]}" for severity in found)
    return f"Problems found {where}; {counts}."


def _print_statistics(
    dataset: "Dataset", splits: "Sequence[SplitStatistics]", json_output: bool
) -> None:
    rows = [split.as_dict() for split in splits]
    protocols, dropped = list(dataset.protocols), _reasons(dataset.dropped)
    if json_output:
        report = {"name": dataset.name, "splits": rows, "protocols": protocols, "dropped": dropped}
        print_json(report, indent=None)
        return
    from rich.table import Table

    from personsearch.terminal import console

    table = Table(title=dataset.name)
    table.add_column("")
    for row in rows:
        table.add_column(str(row.pop("split")), justify="right")
    for key in rows[0] if rows else ():
        table.add_row(key.replace("_", " "), *(_text(row[key]) for row in rows))
    screen = console()
    screen.print(table)
    screen.print(f"protocols: {', '.join(protocols) or 'none'}")
    for reason, count in dropped.items():
        screen.print(f"not read: {reason} ({count:,})")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} %: {number:.0f}" for key, number in value.items()) or "-"
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
