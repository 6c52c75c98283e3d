"""Where a user's store lies, and times as they are typed: shared by the commands on a store."""

import datetime
import os
from pathlib import Path
from typing import Annotated

import typer

VARIABLE = "PERSONSEARCH_STORE"
"""Environment variable that names the store."""
STATE = "PERSONSEARCH_STATE"
"""Environment variable that names the folder of keys and audit log of a store on a server."""

StoreOption = Annotated[
    str | None,
    typer.Option(
        help=f"Folder of the store, or milvus://HOST:PORT/COLLECTION; default: ${VARIABLE}, or one "
        "of this user."
    ),
]


def store_place(named: Path | str | None) -> str:
    """Where people are kept: as named, ``$PERSONSEARCH_STORE``, or the user's own folder."""
    if named is not None:
        return str(named)
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    from platformdirs import user_data_path

    return str(user_data_path("personsearch") / "store")


def store_folder(named: Path | str | None) -> Path:
    """The folder that is meant, for a command that only works on one.

    Raises:
        StoreError: a place of another kind is meant.
    """
    from personsearch.engines.uri import scheme_of
    from personsearch.errors import StoreError

    place = store_place(named)
    if scheme_of(place):
        raise StoreError(f"{place}: this command works on a store in a folder alone")
    return Path(place)


def state_folder(named: Path | str | None) -> Path:
    """Where the keys and the audit log of a store lie: in it, if it is a folder.

    For a store on a server it is ``$PERSONSEARCH_STATE``, or a folder of this user for that place.
    """
    from personsearch.engines.uri import check_scheme, scheme_of

    place = store_place(named)
    if not scheme_of(place):
        return Path(place)
    check_scheme(place)
    if os.environ.get(STATE):
        folder = Path(os.environ[STATE])
    else:
        import hashlib

        from platformdirs import user_data_path

        digest = hashlib.sha256(place.encode()).hexdigest()[:16]
        folder = user_data_path("personsearch") / "state" / digest
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def parse_time(text: str | None) -> float | None:
    """Seconds since 1970 of an ISO date or time; without an offset it is this machine's.

    Raises:
        typer.BadParameter: it is no such text.
    """
    if text is None:
        return None
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r} is not a time; expected such as 2026-11-21 or 2026-11-21T13:45:00"
        ) from None


def show_time(seconds: float | None) -> str:
    """A time as it is read on this machine; empty if it is not known."""
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="seconds")
