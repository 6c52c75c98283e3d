"""`personsearch audit`: read and check the audit log of searches and erasures."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.options import JsonOption, StoreOption, print_json, show_time, store_uri

if TYPE_CHECKING:
    from personsearch.store.audit import AuditLog

app = typer.Typer(help="The audit log of a store: read, check.", no_args_is_help=True)


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
            typer.echo(f"{show_time(entry.time)}  {action} {json.dumps(entry.details)}")


@app.command("check")
def check(
    store: StoreOption = None,
    head: Annotated[
        str | None,
        typer.Option(help="Hash of a line that was noted elsewhere and has to be in the log."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Check whether a line was changed, moved or removed; exit status 1 if so.

    Example: personsearch audit check --head 4f2d...
    """
    log = _log(store)
    problem = log.verify(head)
    count = 0 if problem else sum(1 for _ in log.entries())
    if json_output:
        state = {"whole": not problem, "problem": problem, "entries": count, "head": log.head()}
        print_json(state)
    elif problem:
        typer.echo(f"error: {log.folder}: the audit log was changed: {problem}", err=True)
    else:
        typer.echo(f"intact: {count} entries; head {log.head()}")
    if problem:
        raise typer.Exit(1)


def _log(store: str | None) -> "AuditLog":
    from personsearch.search.state import state_folder
    from personsearch.store.audit import AuditLog

    return AuditLog(state_folder(store_uri(store)))
