"""`personsearch keys`: API keys of a store."""

from typing import Annotated

import typer

from personsearch.cli import options
from personsearch.terminal import echo

app = typer.Typer(help="API keys of a store: make, list, revoke.", no_args_is_help=True)


@app.command("make")
def make(
    name: Annotated[str, typer.Option(help="Name of the holder.")],
    scope: Annotated[
        list[str], typer.Option(help="Permission: search, index, erase or audit; repeatable.")
    ],
    store: options.StoreOption = None,
    json_output: options.JsonOption = False,
) -> None:
    """Make a key and print it, once.

    Example: personsearch keys make --name desk --scope search --scope erase
    """
    from personsearch.engines.state import state_folder
    from personsearch.web.keys import Keys

    secret = Keys(state_folder(options.store_uri(store))).make(name, scope)
    if json_output:
        options.print_json({"name": name, "scopes": scope, "key": secret}, indent=None)
    else:
        echo("this key is shown once; store it safely:", err=True)
        print(secret)


@app.command("list")
def list_keys(store: options.StoreOption = None, json_output: options.JsonOption = False) -> None:
    """List the keys of a store, without their secrets.

    Example: personsearch keys list
    """
    from personsearch.engines.state import state_folder
    from personsearch.web.keys import Keys

    keys = Keys(state_folder(options.store_uri(store))).all()
    if json_output:
        plain = [
            {"name": k.name, "scopes": list(k.scopes), "made": k.made, "revoked": k.revoked}
            for k in keys
        ]
        options.print_json(plain)
        return
    rows = [
        (k.name, ", ".join(k.scopes), options.show_time(k.made), options.show_time(k.revoked))
        for k in keys
    ]
    options.print_table(("name", "scopes", "made", "revoked"), rows)


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="Name of the key.")], store: options.StoreOption = None
) -> None:
    """Revoke a key, at once.

    Example: personsearch keys revoke desk
    """
    from personsearch.engines.state import state_folder
    from personsearch.web.keys import Keys

    Keys(state_folder(options.store_uri(store))).revoke(name)
    echo(f"{name} is revoked")
