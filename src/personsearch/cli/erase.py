"""`personsearch erase`: people, pictures, sources or times out of a store, for good."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.store_folder import StoreOption, parse_time, state_folder, store_place

if TYPE_CHECKING:
    from personsearch.store import Filters


def erase(
    store: StoreOption = None,
    person: Annotated[
        list[int] | None, typer.Option(help="A person's number in the store; repeatable.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="A source as it was indexed, and all in it.")
    ] = None,
    picture: Annotated[
        list[str] | None,
        typer.Option(help="A photo or video inside of --source; repeatable."),
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="People of this camera; repeatable.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="People from then on.")] = None,
    until: Annotated[str | None, typer.Option(help="People before then.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erases people from a store; nothing of them stays in its folder.

    In Milvus nobody finds them from then on; when their bytes leave its disks is up to the server.

    Example: personsearch erase --source ~/photos --picture party/12.jpg
    """
    from personsearch.cli.store_search import source_places
    from personsearch.engines.uri import scheme_of
    from personsearch.store import Filters, open_store
    from personsearch.store.audit import AuditLog, described, user_of_this_machine

    by_person = Filters(
        cameras=camera or None,
        people=person or None,
        since=parse_time(since),
        until=parse_time(until),
    )
    if source is None and (picture or by_person.everyone):
        raise typer.BadParameter(
            "say who: --person, --camera, --since, --until, or --source with or without --picture"
        )
    if source is not None and not by_person.everyone:
        raise typer.BadParameter("--source goes with --picture alone; erase in two steps")
    place = store_place(store)
    who, meant = user_of_this_machine(), described(by_person)
    if scheme_of(place):
        if source is not None:
            meant |= {"source": source, "pictures": list(picture or ())}
        log = AuditLog(state_folder(place))
        count = _erase_there(
            place, by_person, source, picture or None, yes, lambda: log.append("erase", who, meant)
        )
        log.append("erased", who, meant | {"views": count})
        return
    with open_store(place, write=True) as opened:
        if source is not None and not opened.known_files(source):
            # As it was typed when it was indexed: stores know whole paths.
            (source,) = source_places([source])
        if not yes:
            typer.confirm(f"Erase from {opened.folder} for good?", abort=True)
        if source is not None:
            meant |= {"source": source, "pictures": list(picture or ())}
        # Asked and done are two lines: whatever happens in between, one is there.
        AuditLog(opened.folder).append("erase", who, meant)
        if source is not None:
            count = opened.erase_files(source, picture or None)
        else:
            count = opened.erase(by_person)
        AuditLog(opened.folder).append("erased", who, meant | {"views": count})
    typer.echo(f"{count} people erased")


def _erase_there(
    place: str,
    by_person: "Filters",
    source: str | None,
    pictures: Sequence[str] | None,
    yes: bool,
    noted: Callable[[], object],
) -> int:
    """Erases from Milvus, after that was noted; says how many views there were."""
    from personsearch.engines.milvus import MilvusEngine
    from personsearch.engines.uri import check_scheme
    from personsearch.indexing.milvus_writer import MilvusWriter

    check_scheme(place)
    with MilvusEngine(place) as engine:
        if not yes:
            typer.confirm(f"Erase from {place} for good?", abort=True)
        noted()
        if source is not None:
            count = MilvusWriter(engine).erase_files(source, pictures)
        else:
            count = engine.erase(by_person)
        rewritten = engine.compact()
    typer.echo(f"{count} people erased")
    done = "has rewritten" if rewritten else "has not yet rewritten"
    typer.echo(
        f"Milvus {done} what they were in; its old files and logs go when the server's settings "
        "say so",
        err=True,
    )
    return count
