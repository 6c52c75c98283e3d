"""`personsearch serve`: the page and the API of a store."""

from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli.options import DeviceOption, StoreOption, check_device, store_uri
from personsearch.terminal import echo


def serve(
    store: StoreOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other than loopback it needs keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8008,
    model: Annotated[
        str | None, typer.Option(help="As for search; default: the store's own.")
    ] = None,
    device: DeviceOption = "auto",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Host name of this server in URLs; repeatable.")
    ] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log lines as JSON.")] = False,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder for keys and the audit log of a store on a server; default: "
            "$PERSONSEARCH_STATE, or one of this user."
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a page to search a store by picture, and the API behind it.

    Example: personsearch serve --store ~/store --open
    """
    try:
        import uvicorn

        from personsearch.web.app import create_app
    except ModuleNotFoundError as error:
        raise typer.BadParameter(
            f"{error.name} is not installed; run: pip install 'personsearch[web]'"
        ) from None
    import webbrowser

    from personsearch.engines.state import state_folder
    from personsearch.engines.uri import scheme_of
    from personsearch.search.archive import open_archive
    from personsearch.web.connections import server_config
    from personsearch.web.guard import is_loopback, known_names
    from personsearch.web.keys import Keys
    from personsearch.web.listening import listen
    from personsearch.web.logs import log_to_stderr
    from personsearch.web.service import Settings

    uri = store_uri(store)
    if state is not None and not scheme_of(uri):
        raise typer.BadParameter(
            "is for a store on a server; this one is a folder", param_hint="--state"
        )
    folder = state or state_folder(uri)
    if state is not None:
        folder.mkdir(parents=True, exist_ok=True)
    remote = not is_loopback(host)
    with open_archive(uri, model=model, device=check_device(device), state=folder) as archive:
        if remote and not Keys(folder).valid():
            raise typer.BadParameter(
                f"others can reach {host}, which needs a key; make one with: personsearch keys "
                f"make --store {folder} --name NAME --scope search",
                param_hint="--host",
            )
        hosts = known_names(host, tuple(allow_host or ()))
        app = create_app(archive, Settings(hosts=hosts, keys_needed=remote))
        log_to_stderr(log_json)
        with listen(host, port) as socket:
            shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
            address = f"http://{f'[{shown}]' if ':' in shown else shown}:{socket.getsockname()[1]}"
            echo(f"{uri}: served at {address} (Ctrl-C ends it)", err=True)
            if open_page:
                webbrowser.open(address)
            try:
                uvicorn.Server(server_config(app)).run(sockets=[socket])
            finally:
                app.state.service.close()  # which uvicorn leaves out on a second Ctrl-C
