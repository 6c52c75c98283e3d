"""`personsearch erase`: people, pictures, sources or times out of a store, for good."""

from typing import Annotated

import typer

from personsearch.cli.store_folder import StoreOption, parse_time, store_folder


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
    since: Annotated[str | None, typer.Option(help="People from then on.")] = None,
    until: Annotated[str | None, typer.Option(help="People before then.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erases people from a store; nothing of them stays in its folder.

    Example: personsearch erase --source ~/photos --picture party/12.jpg
    """
    from personsearch.retrieval.audit import AuditLog, described, user_of_this_machine
    from personsearch.retrieval.store import Filters, open_store

    by_person = Filters(people=person or (), since=parse_time(since), until=parse_time(until))
    if source is None and (picture or by_person.everyone):
        raise typer.BadParameter(
            "say who: --person, --since, --until, or --source with or without --picture"
        )
    if source is not None and not by_person.everyone:
        raise typer.BadParameter("--source goes with --picture alone; erase in two steps")
    with open_store(store_folder(store), write=True) as opened:
        if not yes:
            typer.confirm(f"Erase from {opened.folder} for good?", abort=True)
        who, meant = user_of_this_machine(), described(by_person)
        if source is not None:
            meant |= {"source": source, "pictures": list(picture or ())}
        # Asked and done are two lines: whatever happens in between, one is there.
        AuditLog(opened.folder).append("erase", who, meant)
        if source is not None:
            count = opened.erase_files(source, picture or ())
        else:
            count = opened.erase(by_person)
        AuditLog(opened.folder).append("erased", who, meant | {"views": count})
        opened.compact()
    typer.echo(f"{count} people erased")
