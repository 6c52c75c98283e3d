"""`personsearch store export`, `import` and `merge`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.options import JsonOption, StoreOption, echo_first, print_json, store_folder
from personsearch.terminal import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from personsearch.store.merge import Confirm, ExchangeReport, Removal

ApplyOption = Annotated[
    bool,
    typer.Option(
        "--apply-erasures",
        help="Also erase here what was erased there, and people in files that are newer there.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before anyone is erased.")]


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
    from personsearch.engines.state import state_folder
    from personsearch.store import exchange
    from personsearch.store.audit import AuditLog

    origin = store_folder(store)
    log = AuditLog(state_folder(origin))
    with StepProgress(json_output) as progress:
        counts = exchange.export_store(origin, folder, text.value, progress, audit=log)
    if json_output:
        print_json({"folder": str(folder), "counts": counts})
    else:
        echo(f"{folder}: {counts['people']} people in {counts['files']} files")


def import_store(
    folder: Annotated[Path, typer.Argument(help="Folder written by 'store export'.")],
    store: StoreOption = None,
    apply_erasures: ApplyOption = False,
    yes: YesOption = False,
    json_output: JsonOption = False,
) -> None:
    """Add an export to a store; present files are skipped, erased files stay erased.

    Nobody is erased here without --apply-erasures.

    Example: personsearch store import people-2026 --store people
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.store import exchange

    with StepProgress(json_output) as progress:
        report = exchange.import_store(
            *(folder, store_folder(store), progress),
            apply_erasures=apply_erasures,
            confirm=_confirm(yes, json_output),
        )
    _finish(report, store_folder(store), json_output)


def merge(
    origin: Annotated[Path, typer.Argument(help="Folder of the other store; it is not changed.")],
    store: StoreOption = None,
    apply_erasures: ApplyOption = False,
    yes: YesOption = False,
    json_output: JsonOption = False,
) -> None:
    """Add everyone of another store to this one.

    Nobody is erased here without --apply-erasures.

    Example: personsearch store merge people-of-the-other-disk --store people
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.store.merge import merge_stores

    with StepProgress(json_output) as progress:
        report = merge_stores(
            *(origin, store_folder(store), progress),
            apply_erasures=apply_erasures,
            confirm=_confirm(yes, json_output),
        )
    _finish(report, store_folder(store), json_output)


def _confirm(yes: bool, json_output: bool) -> "Confirm":
    """Say whom an import erases, and ask."""

    def confirm(removals: "Sequence[Removal]") -> None:
        if not json_output:
            people = sum(one.people for one in removals)
            echo(f"{people} people in {len(removals)} files are erased here:", err=True)
            paths = [f"{one.source}/{one.name}".rstrip("/") for one in removals]
            lines = [
                f"  {path}: {one.people} ({one.reason})"
                for path, one in zip(paths, removals, strict=True)
            ]
            echo_first(lines, err=True)
        if not yes:
            typer.confirm("Erase them for good?", abort=True, err=True)

    return confirm


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
    if report.left:
        echo(
            f"{len(report.left)} files are erased or newer there and stay as they are here; to "
            "erase people here, too, use --apply-erasures"
        )
    if report.erased:
        echo(f"{report.erased} files were erased there and are erased here, too")
    if report.removed:
        echo(f"{report.removed} people were erased here")
    if report.expired:
        echo(f"{report.expired} people were older than this store keeps, and are erased")
