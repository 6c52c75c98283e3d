"""Where a user's store lies, and times as they are typed: shared by the commands on a store."""

import datetime
import os
from pathlib import Path
from typing import Annotated

import typer

VARIABLE = "PERSONSEARCH_STORE"
"""Environment variable that names the store."""

StoreOption = Annotated[
    Path | None,
    typer.Option(help=f"Folder of the store; default: ${VARIABLE}, or one of this user."),
]


def store_folder(named: Path | None) -> Path:
    """The store that is meant: as named, ``$PERSONSEARCH_STORE``, or the user's own."""
    if named is not None:
        return named
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    from platformdirs import user_data_path

    return user_data_path("personsearch") / "store"


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
