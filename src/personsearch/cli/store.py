"""`personsearch store`: contents, check, size and preparation of a store."""

from pathlib import Path
from typing import Annotated, Any

import typer

from personsearch.cli import store_exchange
from personsearch.cli.options import (
    JsonOption,
    StoreOption,
    echo_first,
    not_empty,
    print_json,
    show_time,
    source_uri,
    store_folder,
)
from personsearch.terminal import echo

app = typer.Typer(
    help="Maintain a store: contents, checks, export, import, merging, retention.",
    no_args_is_help=True,
)


@app.command("info")
def info(store: StoreOption = None, json_output: JsonOption = False) -> None:
    """Show what is in a store.

    Example: personsearch store info --store people
    """
    from personsearch.store import open_store
    from personsearch.store.check import UNSCRUBBED

    folder = store_folder(store)
    with open_store(folder) as opened, opened.snapshot():
        first, last = opened.times()
        found: dict[str, Any] = {
            "store": str(folder),
            "model": dict(vars(opened.model)),
            "counts": opened.counts(),
            "cameras": opened.cameras(),
            "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            "retention_days": opened.retention(),
            "outdated": opened.outdated(),
            "scrubbed": opened.scrubbed(),
            "unreadable": [
                dict(zip(("source", "name", "reason"), one, strict=True))
                for one in opened.unreadable()
            ],
            "first": first,
            "last": last,
        }
    if json_output:
        print_json(found)
        return
    echo(f"{folder}: {found['bytes'] / 1e6:.1f} MB, of model {found['model']['name']}")
    echo(", ".join(f"{count} {what}" for what, count in found["counts"].items()))
    for camera, count in found["cameras"].items():
        echo(f"  camera {camera}: {count} people")
    if first is not None:
        echo(f"taken from {show_time(first)} to {show_time(last)}")
    if not found["scrubbed"]:
        echo(f"{UNSCRUBBED}; overwrite them with: personsearch store compact")
    days = found["retention_days"]
    echo("kept forever" if days is None else f"kept for {days:g} days")
    if found["outdated"]:
        echo(f"{found['outdated']} people are older: personsearch store expire")
    failed = [(Path(one["source"]) / one["name"], one["reason"]) for one in found["unreadable"]]
    echo_first([f"  unreadable: {path}: {reason}" for path, reason in failed])


@app.command("check")
def check(store: StoreOption = None, json_output: JsonOption = False) -> None:
    """Read everything in a store; exit status 1 if anything is damaged.

    Example: personsearch store check --store people
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.store import open_store
    from personsearch.store.check import check_store

    folder = store_folder(store)
    with open_store(folder) as opened, StepProgress(json_output) as progress:
        problems = check_store(opened, progress)
    if json_output:
        print_json({"store": str(folder), "problems": problems})
    else:
        echo_first([f"{folder}: {problem}" for problem in problems] or [f"{folder}: no problems"])
    if problems:
        raise typer.Exit(1)


@app.command("unerase")
def unerase(
    source: Annotated[str, typer.Option(help="A source as it was indexed.")],
    picture: Annotated[
        list[str] | None, typer.Option(help="A photo or video inside of --source; repeatable.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Let 'index' add erased files again, and files of which people were erased.

    An erasure is not undone: it takes the files, and who they show is found anew.

    Example: personsearch store unerase --source ~/photos --picture party/12.jpg
    """
    from personsearch.store import open_store

    not_empty([source], "--source")
    not_empty(picture, "--picture")
    with open_store(store_folder(store), write=True) as opened:
        if not opened.known_files(source):
            source = source_uri(source)
        count = opened.unerase(source, picture or None)
    echo(f"{count} files may be indexed again; do so with: personsearch index")


@app.command("compact")
def compact(store: StoreOption = None) -> None:
    """Return free space to the disk; migrate a store of an older version.

    Example: personsearch store compact --store people
    """
    from personsearch.store import DATABASE, open_store

    folder = store_folder(store)
    with open_store(folder, write=True) as opened:
        before = (folder / DATABASE).stat().st_size
        opened.compact()
        after = (folder / DATABASE).stat().st_size
    echo(f"{folder}: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now")


app.command("export")(store_exchange.export_store)
app.command("import")(store_exchange.import_store)
app.command("merge")(store_exchange.merge)


@app.command("keep")
def keep(
    days: Annotated[str, typer.Argument(help="Days, or 'forever'.", metavar="DAYS|forever")],
    store: StoreOption = None,
) -> None:
    """Set how long pictures are kept; 'store expire' and 'index' erase older ones.

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
            raise typer.BadParameter(f"{days!r}: expected days such as 30, or 'forever'")
    folder = store_folder(store)
    with open_store(folder, write=True) as opened:
        opened.set_retention(number)
        older = opened.outdated()
    echo(f"{folder}: " + ("kept forever" if number is None else f"kept for {number:g} days"))
    if older:
        echo(f"{older} people are older; erase them now with: personsearch store expire")


@app.command("expire")
def expire(
    store: StoreOption = None,
    trust_clock: Annotated[
        bool,
        typer.Option(
            "--trust-clock", help="This machine's clock is right, though the last run was long ago."
        ),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Erase pictures that are older than the store keeps.

    Example: personsearch store expire --store people
    """
    from personsearch.store import open_store

    folder = store_folder(store)
    with open_store(folder, write=True) as opened:
        if trust_clock:
            opened.trust_clock()
        count = opened.expire()
        days = opened.retention()
    if json_output:
        print_json({"store": str(folder), "erased": count, "retention_days": days}, indent=None)
    elif days is None:
        echo(f"{folder}: keeps forever; set a time with: personsearch store keep DAYS")
    else:
        echo(f"{count} people older than {days:g} days erased")


@app.command("prepare")
def prepare(store: StoreOption = None) -> None:
    """Prepare approximate search, for stores of more than a million people.

    It takes minutes, during which others can search. From then on it is kept up to date.

    Example: personsearch store prepare --store people
    """
    from contextlib import closing

    from personsearch.engines.index import MANY
    from personsearch.engines.sqlite import StoreEngine

    folder = store_folder(store)
    with closing(StoreEngine(folder)) as engine:
        people, prepared = engine.count(), engine.prepare()
    if prepared:
        more = "" if people >= MANY else f"; below {MANY:,} people search stays exact"
        echo(f"{folder}: prepared for {people:,} people{more}")
    else:
        echo(f"{folder}: {people:,} people are searched exactly, which is fast enough")
