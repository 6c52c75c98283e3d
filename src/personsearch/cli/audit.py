"""`personsearch audit`: read, check and anchor the audit log of searches and erasures."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.options import JsonOption, StoreOption, print_json, show_time, store_uri
from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.store.audit import Anchor, AuditLog

app = typer.Typer(
    help="The audit log of a store: read, check, anchor, restart.", no_args_is_help=True
)


@app.command("read")
def read(store: StoreOption = None, json_output: JsonOption = False) -> None:
    """Print the log, oldest first.

    Example: personsearch audit read --json
    """
    for entry in _log(store).entries():
        if json_output:
            print_json(vars(entry), indent=None)
        else:
            # JSON also escapes control characters of terminals.
            action = f"{json.dumps(entry.who)[1:-1]}: {json.dumps(entry.action)[1:-1]}"
            echo(f"{show_time(entry.time)}  {action} {json.dumps(entry.details)}")


@app.command("check")
def check(
    store: StoreOption = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            "--anchor",
            "--head",
            metavar="FILE|HASH",
            help="File that 'audit anchor' wrote, or hash of a line that was noted elsewhere.",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Check whether a line was changed, moved or removed; exit status 1 if so.

    Example: personsearch audit check --anchor /mnt/elsewhere/anchors.jsonl
    """
    from personsearch.store.audit import RESTARTED

    log = _log(store)
    head, anchors = _noted(anchor)
    problem = log.verify(head, anchors)
    count, head, restarts = 0, log.head(), []
    for entry in () if problem else log.entries():
        count += 1
        restarts += [entry] if entry.action == RESTARTED else []
    if json_output:
        state = {"whole": not problem, "problem": problem, "entries": count, "head": head}
        state |= {"anchors": len(anchors), "restarts": [vars(one) for one in restarts]}
        print_json(state)
    elif problem:
        echo(f"error: {log.folder}: the audit log was changed: {problem}", err=True)
    else:
        compared = f"; {len(anchors)} anchors are in it" if anchors else ""
        echo(f"intact: {count} entries{compared}; head {head}")
        for entry in restarts:
            why = json.dumps(entry.details.get("problem"))
            echo(f"a damaged log was replaced at {show_time(entry.time)}: {why}")
    if problem:
        raise typer.Exit(1)


@app.command("anchor")
def write_anchor(
    store: StoreOption = None,
    file: Annotated[Path | None, typer.Option(help="Append it to this file.")] = None,
    url: Annotated[
        str | None, typer.Option(help="POST it as JSON to this HTTPS address; no redirects.")
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(
            metavar="'PROGRAM ARGUMENTS'", help="Start this program, with JSON on its input."
        ),
    ] = None,
) -> None:
    """Note the number of lines and the hash of the last one elsewhere.

    Whoever can write the store's files can write another log, but not one with the lines that were
    anchored where they cannot write.

    Example: personsearch audit anchor --file /mnt/elsewhere/anchors.jsonl
    """
    from personsearch.store import anchors

    if file is None and url is None and command is None:
        raise typer.BadParameter("names no place: use --file, --url or --command")
    log = _log(store)
    anchor = log.anchor()
    if file is not None:
        anchors.write_to_file(anchor, file)
    if url is not None:
        anchors.post(anchor, url)
    if command is not None:
        anchors.pipe(anchor, command)
    echo(f"{log.folder}: {anchor.lines} entries are anchored; head {anchor.head}")


@app.command("restart")
def restart(store: StoreOption = None) -> None:
    """Begin a new log in place of a damaged one, which is kept under another name.

    A damaged log stops every search and erasure. The first line of the new log says what was wrong.

    Example: personsearch audit restart --store people
    """
    log = _log(store)
    kept = log.restart()
    echo(f"{log.folder}: a new log begins; kept: {', '.join(kept) or 'nothing'}")


def _noted(anchor: str | None) -> "tuple[str | None, list[Anchor]]":
    """A hash or the anchors in a file."""
    from personsearch.store.anchors import is_hash, read_anchors

    if anchor is None or is_hash(anchor):
        return anchor, []
    return None, read_anchors(Path(anchor))


def _log(store: str | None) -> "AuditLog":
    from personsearch.engines.state import state_folder
    from personsearch.store.audit import AuditLog

    return AuditLog(state_folder(store_uri(store)))
