"""`personsearch store keep` and `expire`: how long a store keeps pictures."""

from typing import Annotated

import typer

from personsearch.cli.options import JsonOption, StoreOption, print_json, store_folder


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
    typer.echo(f"{folder}: " + ("kept forever" if number is None else f"kept for {number:g} days"))
    if older:
        typer.echo(f"{older} people are older; erase them now with: personsearch store expire")


def expire(store: StoreOption = None, json_output: JsonOption = False) -> None:
    """Erase pictures that are older than the store keeps.

    Example: personsearch store expire --store people
    """
    from personsearch.store import open_store
    from personsearch.store.audit import log_expired, user_of_this_machine

    folder = store_folder(store)
    with open_store(folder, write=True) as opened:
        count = opened.expire()
        days = opened.retention()
        log_expired(folder, user_of_this_machine(), count)
    if json_output:
        print_json({"store": str(folder), "erased": count, "retention_days": days}, indent=None)
    elif days is None:
        typer.echo(f"{folder}: keeps forever; set a time with: personsearch store keep DAYS")
    else:
        typer.echo(f"{count} people older than {days:g} days erased")
