"""`personsearch store`: what is in a store, whether it is whole, and how it goes elsewhere."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.cli.options import StoreOption, show_time, store_folder

if TYPE_CHECKING:
    from personsearch.store.merge import ExchangeReport

app = typer.Typer(
    help="Looks after a store: checks, exports, imports, merges it, and sets how long it keeps.",
    no_args_is_help=True,
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SHOWN = 20


class _Format(StrEnum):
    jsonl = "jsonl"
    parquet = "parquet"


@app.command("info")
def info(store: StoreOption = None, json_output: _Json = False) -> None:
    """Says what is in a store.

    Example: personsearch store info --store people
    """
    import json

    from personsearch.store import open_store

    place = store_folder(store)
    with open_store(place) as opened, opened.snapshot():
        found: dict[str, Any] = {
            "store": str(place),
            "model": dict(vars(opened.model)),
            "counts": opened.counts(),
            "cameras": opened.cameras(),
            "bytes": sum(path.stat().st_size for path in place.rglob("*") if path.is_file()),
            "retention_days": opened.retention(),
            "outdated": opened.outdated(),
            "unreadable": [
                {"source": source, "name": name, "reason": reason}
                for source, name, reason in opened.unreadable()
            ],
        }
        first, last = opened.times()
    found |= {"first": first, "last": last}
    if json_output:
        print(json.dumps(found, indent=2))
        return
    typer.echo(f"{place}: {found['bytes'] / 1e6:.1f} MB, of model {found['model']['name']}")
    typer.echo(", ".join(f"{count} {what}" for what, count in found["counts"].items()))
    for camera, count in found["cameras"].items():
        typer.echo(f"  camera {camera}: {count} people")
    if first is not None:
        typer.echo(f"taken from {show_time(first)} to {show_time(last)}")
    days = found["retention_days"]
    typer.echo("kept forever" if days is None else f"kept for {days:g} days")
    if found["outdated"]:
        typer.echo(f"{found['outdated']} people are older: personsearch store expire")
    for one in found["unreadable"][:_SHOWN]:
        typer.echo(f"  unreadable: {Path(one['source']) / one['name']}: {one['reason']}")
    if (left := len(found["unreadable"]) - _SHOWN) > 0:
        typer.echo(f"  and {left} more, see --json")


@app.command("check")
def check(store: StoreOption = None, json_output: _Json = False) -> None:
    """Reads all of a store; exit status 1 if anything is wrong.

    Example: personsearch store check --store people
    """
    import json

    from personsearch.cli.progress import StepProgress
    from personsearch.store import open_store
    from personsearch.store.check import check_store

    place = store_folder(store)
    with open_store(place) as opened, StepProgress() as progress:
        problems = check_store(opened, None if json_output else progress)
    if json_output:
        print(json.dumps({"store": str(place), "problems": problems}, indent=2))
    else:
        for problem in problems[:_SHOWN]:
            typer.echo(f"{place}: {problem}")
        if len(problems) > _SHOWN:
            typer.echo(f"and {len(problems) - _SHOWN} more, see --json")
        if not problems:
            typer.echo(f"{place}: whole")
    if problems:
        raise typer.Exit(1)


@app.command("compact")
def compact(store: StoreOption = None) -> None:
    """Gives room back to the disk; brings a store of an older version up to date.

    Example: personsearch store compact --store people
    """
    from personsearch.store import DATABASE, open_store

    place = store_folder(store)
    with open_store(place, write=True) as opened:
        before = (place / DATABASE).stat().st_size
        opened.compact()
        after = (place / DATABASE).stat().st_size
    typer.echo(f"{place}: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now")


@app.command("export")
def export_folder(
    folder: Annotated[Path, typer.Argument(help="Folder that is to be made.")],
    store: StoreOption = None,
    text: Annotated[
        _Format, typer.Option("--format", help="Of all but embeddings and thumbnails.")
    ] = _Format.jsonl,
    json_output: _Json = False,
) -> None:
    """Writes a store to a folder of open formats, checksums and all.

    Example: personsearch store export people-2026 --store people
    """
    import json

    from personsearch.cli.progress import StepProgress
    from personsearch.store.exchange import export_store

    with StepProgress() as progress:
        counts = export_store(
            store_folder(store), folder, text.value, None if json_output else progress
        )
    if json_output:
        print(json.dumps({"folder": str(folder), "counts": counts}, indent=2))
    else:
        typer.echo(f"{folder}: {counts['people']} people in {counts['files']} files")


@app.command("import")
def import_folder(
    folder: Annotated[Path, typer.Argument(help="Folder that 'store export' wrote.")],
    store: StoreOption = None,
    json_output: _Json = False,
) -> None:
    """Brings an export into a store; what is there is skipped, what was erased stays erased.

    Example: personsearch store import people-2026 --store people
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.engines.sqlite import write_index
    from personsearch.store.exchange import import_store

    place = store_folder(store)
    with StepProgress() as progress:
        report = import_store(folder, place, None if json_output else progress)
    write_index(place)
    _print(report, place, json_output)


@app.command("merge")
def merge(
    origin: Annotated[Path, typer.Argument(help="Folder of the other store; stays as it is.")],
    store: StoreOption = None,
    json_output: _Json = False,
) -> None:
    """Brings everyone of another store into this one.

    Example: personsearch store merge people-of-the-other-disk --store people
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.engines.sqlite import write_index
    from personsearch.store.merge import merge_stores

    place = store_folder(store)
    with StepProgress() as progress:
        report = merge_stores(origin, place, None if json_output else progress)
    write_index(place)
    _print(report, place, json_output)


def _print(report: "ExchangeReport", place: Path, json_output: bool) -> None:
    import json

    if json_output:
        print(json.dumps({"store": str(place), **report.as_json()}, indent=2))
        return
    typer.echo(
        f"{place}: {report.people} people in {report.files} files are new; {report.skipped} files "
        "were there already"
    )
    for what, names in (
        ("replaced by a newer version", report.replaced),
        ("newer here, kept", report.kept),
    ):
        for name in names[:_SHOWN]:
            typer.echo(f"  {what}: {name}")
        if len(names) > _SHOWN:
            typer.echo(f"  and {len(names) - _SHOWN} more, see --json")
    if report.erased:
        typer.echo(f"{report.erased} files were erased there and are erased here, too")
    if report.expired:
        typer.echo(f"{report.expired} people were older than this store keeps, and are erased")


@app.command("keep")
def keep(
    days: Annotated[str, typer.Argument(help="Days, or 'forever'.", metavar="DAYS|forever")],
    store: StoreOption = None,
) -> None:
    """Sets how long pictures are kept; who is older is erased by 'store expire' and 'index'.

    Example: personsearch store keep 30 --store people
    """
    import math

    from personsearch.store import open_store

    number: float | None = None
    if days != "forever":
        try:
            number = float(days)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise typer.BadParameter(f"{days!r} came, expected days such as 30, or 'forever'")
    place = store_folder(store)
    with open_store(place, write=True) as opened:
        opened.set_retention(number)
        older = opened.outdated()
    typer.echo(f"{place}: " + ("kept forever" if number is None else f"kept for {number:g} days"))
    if older:
        typer.echo(f"{older} people are older; erase them now with: personsearch store expire")


@app.command("expire")
def expire(store: StoreOption = None, json_output: _Json = False) -> None:
    """Erases for good who is older than the store keeps.

    Example: personsearch store expire --store people
    """
    import json

    from personsearch.store import open_store
    from personsearch.store.audit import log_expired, user_of_this_machine

    place = store_folder(store)
    with open_store(place, write=True) as opened:
        count = opened.expire()
        days = opened.retention()
        log_expired(place, user_of_this_machine(), count)
    if json_output:
        print(json.dumps({"store": str(place), "erased": count, "retention_days": days}))
    elif days is None:
        typer.echo(f"{place}: keeps forever; set a time with: personsearch store keep DAYS")
    else:
        typer.echo(f"{count} people older than {days:g} days erased")


@app.command("prepare")
def prepare(store: StoreOption = None) -> None:
    """Prepares approximate search, for stores of more than a million people.

    It takes minutes, in which others can search, and is kept up to date from then on.

    Example: personsearch store prepare --store people
    """
    from contextlib import closing

    from personsearch.engines.index import MANY
    from personsearch.engines.sqlite import StoreEngine

    place = store_folder(store)
    with closing(StoreEngine(place)) as engine:
        people, prepared = engine.count(), engine.prepare()
    if prepared:
        more = "" if people >= MANY else f"; below {MANY:,} people search stays exact all the same"
        typer.echo(f"{place}: prepared for {people:,} people{more}")
    else:
        typer.echo(f"{place}: {people:,} people are searched exactly; that is quick enough")
