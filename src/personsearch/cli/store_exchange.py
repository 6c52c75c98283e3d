"""`personsearch store export`, `import` and `merge`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.options import JsonOption, StoreOption, echo_first, print_json, store_folder
from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.store.merge import ExchangeReport


class Format(StrEnum):
    """Formats of an export's tables."""

    JSONL = "jsonl"
    PARQUET = "parquet"


def export_store(
    folder: Annotated[Path, typer.Argument(help="New folder for the export.")],
    store: StoreOption = None,
    text: Annotated[
        Format, typer.Option("--format", help="Of everything but embeddings and thumbnails.")
    ] = Format.JSONL,
    json_output: JsonOption = False,
) -> None:
    """Write a store to a folder of open formats, with checksums.

    Example: personsearch store export people-2026 --store people
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.store import exchange

    with StepProgress(json_output) as progress:
        counts = exchange.export_store(store_folder(store), folder, text.value, progress)
    if json_output:
        print_json({"folder": str(folder), "counts": counts})
    else:
        echo(f"{folder}: {counts['people']} people in {counts['files']} files")


def import_store(
    folder: Annotated[Path, typer.Argument(help="Folder written by 'store export'.")],
    store: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Add an export to a store; present files are skipped, erased files stay erased.

    Example: personsearch store import people-2026 --store people
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.store import exchange

    with StepProgress(json_output) as progress:
        report = exchange.import_store(folder, store_folder(store), progress)
    _finish(report, store_folder(store), json_output)


def merge(
    origin: Annotated[Path, typer.Argument(help="Folder of the other store; it is not changed.")],
    store: StoreOption = None,
    json_output: JsonOption = False,
) -> None:
    """Add everyone of another store to this one.

    Example: personsearch store merge people-of-the-other-disk --store people
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.store.merge import merge_stores

    with StepProgress(json_output) as progress:
        report = merge_stores(origin, store_folder(store), progress)
    _finish(report, store_folder(store), json_output)


def _finish(report: "ExchangeReport", folder: Path, json_output: bool) -> None:
    """Write the index of the store, and print the report."""
    from personsearch.engines.sqlite import write_index

    write_index(folder)
    if json_output:
        print_json({"store": str(folder), **report.as_json()})
        return
    echo(
        f"{folder}: {report.people} people in {report.files} files are new; {report.skipped} files "
        "were there already"
    )
    echo_first([f"  replaced by a newer version: {name}" for name in report.replaced])
    echo_first([f"  newer here, kept: {name}" for name in report.kept])
    if report.erased:
        echo(f"{report.erased} files were erased there and are erased here, too")
    if report.expired:
        echo(f"{report.expired} people were older than this store keeps, and are erased")
