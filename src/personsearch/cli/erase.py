"""`personsearch erase`: delete people, pictures, sources or times from a store for good."""

from typing import Annotated

import typer

from personsearch.cli.options import (
    StoreOption,
    echo_first,
    make_filters,
    not_empty,
    source_uri,
    store_uri,
)
from personsearch.terminal import echo


def erase(
    store: StoreOption = None,
    person: Annotated[
        list[int] | None, typer.Option(help="A person's number in the store; repeatable.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="A source as it was indexed, with everyone in it.")
    ] = None,
    picture: Annotated[
        list[str] | None, typer.Option(help="A photo or video inside of --source; repeatable.")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="People of this camera; repeatable.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only people from this time on, such as 2026-11-21T13:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only people before this time.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase people from a store; nothing of them stays in its folder.

    In Milvus nobody finds them from then on; when their bytes leave its disks is up to the server.

    Example: personsearch erase --source ~/photos --picture party/12.jpg
    """
    from personsearch.engines.milvus import MilvusEngine
    from personsearch.engines.sqlite import StoreEngine
    from personsearch.engines.uri import scheme_of
    from personsearch.search.archive import open_archive
    from personsearch.store import open_store
    from personsearch.store.audit import user_of_this_machine

    not_empty([] if source is None else [source], "--source")
    not_empty(picture, "--picture")
    filters = make_filters(camera, since=since, until=until, people=person or None)
    if source is None and (picture or filters.everyone):
        raise typer.BadParameter(
            "nobody is named: use --person, --camera, --since, --until, or --source with or "
            "without --picture"
        )
    if source is not None and not filters.everyone:
        raise typer.BadParameter("--source goes with --picture alone; erase in two steps")
    uri = store_uri(store)
    if not scheme_of(uri):
        # Stores of older versions are migrated when they are opened for writing.
        with open_store(uri, write=True) as opened:
            if source is not None and not opened.known_files(source):
                source = source_uri(source)
    with open_archive(uri, caller=user_of_this_machine()) as archive:
        archive.engine.get(filters.people or ())  # an error, if one is not there
        if not yes:
            typer.confirm(f"Erase from {uri} for good?", abort=True)
        if source is not None:
            count = archive.erase_files(source, picture or None)
        else:
            count = archive.erase(filters)
        echo(f"{count} people erased")
        if isinstance(archive.engine, StoreEngine) and source is not None:
            copies = archive.engine.store.copies(source)
            if copies:
                echo(f"{len(copies)} copies of erased files are still in it, and show people:")
            echo_first([f"  {path}" for path in copies])
        if isinstance(archive.engine, MilvusEngine):
            done = "has rewritten" if archive.engine.compact() else "has not yet rewritten"
            echo(
                f"Milvus {done} what they were in; its old files and logs go when the server's "
                "settings say so",
                err=True,
            )
