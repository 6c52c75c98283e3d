"""Options that several commands share, and how their values are read and shown.

A wrong value raises `typer.BadParameter`, a picture that cannot be read `PictureError`.
"""

import datetime
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.terminal import echo, printable

if TYPE_CHECKING:
    from personsearch.search.archive import Archive
    from personsearch.search.query import QueryPicture
    from personsearch.search.request import SearchRequest
    from personsearch.store import Filters

VARIABLE = "PERSONSEARCH_STORE"
"""Environment variable that names the store."""

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""

StoreOption = Annotated[
    str | None,
    typer.Option(
        help=f"Folder of the store, or milvus://HOST:PORT/COLLECTION; default: ${VARIABLE}, or one "
        "of this user."
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda or cuda:N; for an .onnx or the networks of a .toml also tensorrt "
        "or gpu (OpenVINO)."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QueryArgument = Annotated[Path | None, typer.Argument(help="A picture that shows the person.")]
BoxOption = Annotated[
    str | None,
    typer.Option(
        metavar="X1,Y1,X2,Y2",
        help="Where the person is, in pixels; default: the highest-scoring person.",
    ),
]
ExampleOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PICTURE[:X1,Y1,X2,Y2]", help="One more picture that shows the person; repeatable."
    ),
]
PersonOption = Annotated[
    list[int] | None,
    typer.Option(help="Number of a person in the store who is the same; repeatable."),
]
UnlikeOption = Annotated[
    list[int] | None,
    typer.Option(help="Number of a person in the store who is another; repeatable."),
]
CameraOption = Annotated[
    list[str] | None, typer.Option(help="Only people of this camera; repeatable.")
]
SourceOption = Annotated[
    list[str] | None, typer.Option(help="Only of this folder or file as indexed; repeatable.")
]
SinceOption = Annotated[
    str | None, typer.Option(help="Only from this time on, such as 2026-11-21T13:00.")
]
UntilOption = Annotated[str | None, typer.Option(help="Only before this time.")]
ScoreOption = Annotated[
    float,
    typer.Option(
        "--score-threshold",
        "--score",
        min=0.0,
        max=1.0,
        help="Leave out detections with a lower score.",
    ),
]


def not_empty(values: Sequence[str] | None, option: str) -> Sequence[str] | None:
    """Return the values of an option, none of which may be empty; None where it was not given."""
    if any(not value.strip() for value in values or ()):
        raise typer.BadParameter("is empty; name one, or leave the option out", param_hint=option)
    return values or None


def store_uri(named: Path | str | None) -> str:
    """Return where people are kept: as named, ``$PERSONSEARCH_STORE``, or the user's own folder."""
    if named is not None:
        not_empty([str(named)], "--store")
        return str(named)
    if uri := os.environ.get(VARIABLE):
        return uri
    from platformdirs import user_data_path

    return str(user_data_path("personsearch") / "store")


def store_folder(named: Path | str | None) -> Path:
    """Return the store's folder; raise `StoreError` if the store is on a server."""
    from personsearch.engines.uri import scheme_of
    from personsearch.errors import StoreError

    uri = store_uri(named)
    if scheme_of(uri):
        raise StoreError(f"{uri}: is on a server; this command needs a store in a folder")
    return Path(uri)


def check_device(name: str) -> str:
    """Return the name of a device (`DeviceOption`), which a model may still not find here."""
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?|tensorrt|gpu", name) is None:
        raise typer.BadParameter(
            f"{name!r}: expected auto, cpu, cuda, cuda:N, tensorrt or gpu", param_hint="--device"
        )
    return name


def check_suffix(path: Path | None, suffixes: Sequence[str], option: str) -> None:
    """Check the ending of a file that will be written."""
    if path is not None and path.suffix.lower() not in suffixes:
        expected = " or ".join(suffixes)
        raise typer.BadParameter(f"{path}: expected a name ending in {expected}", param_hint=option)


def parse_box(text: str | None) -> Corners | None:
    """Parse ``x1,y1,x2,y2``, four finite numbers with x1 < x2 and y1 < y2."""
    if text is None:
        return None
    from personsearch.search.query import check_corners

    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
        check_corners((x1, y1, x2, y2))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a box; expected x1,y1,x2,y2 in pixels with x1 < x2 and y1 < y2"
        ) from None
    return x1, y1, x2, y2


def parse_example(text: str) -> tuple[Path, Corners | None]:
    """Parse ``PICTURE`` or ``PICTURE:x1,y1,x2,y2``."""
    before, colon, after = text.rpartition(":")
    # A colon may be part of a name; three commas mean a box.
    if colon and before and after.count(",") == 3:
        return Path(before), parse_box(after)
    return Path(text), None


def read_examples(
    picture: Path | None, box: str | None, examples: Sequence[str] | None
) -> "list[tuple[QueryPicture, Corners | None]]":
    """Read the query pictures, once, before a model is loaded; check that boxes lie in them."""
    from personsearch.errors import DataError
    from personsearch.search.query import QueryPicture, check_box

    if picture is None and box is not None:
        raise typer.BadParameter("--box needs a picture", param_hint="--box")
    found = [] if picture is None else [(picture, parse_box(box))]
    found += [parse_example(text) for text in examples or ()]
    read = [(QueryPicture.read(path), corners) for path, corners in found]
    for one, corners in read:
        try:
            if corners is not None:
                check_box(corners, one.size, one.path)
        except DataError as error:
            raise typer.BadParameter(str(error), param_hint="--box") from None
    return read


def make_request(
    picture: Path | None,
    box: str | None,
    examples: Sequence[str] | None,
    person: Sequence[int] | None,
    unlike: Sequence[int] | None,
    **options: Any,
) -> "SearchRequest":
    """Return the request of a search; `options` are more fields of `SearchRequest`."""
    from personsearch.search.request import SearchRequest

    if picture is None and not person and not examples:
        raise typer.BadParameter(
            "no person is given: name a picture that shows the person, or --person with a number "
            "in the store"
        )
    pictures = read_examples(picture, box, examples)
    return SearchRequest(pictures=pictures, people=person or (), unlike=unlike or (), **options)


def open_for_search(store: str | None, model: str | None, device: str) -> "Archive":
    """Open the store for a user of this machine; see `open_archive`."""
    from personsearch.search.archive import open_archive
    from personsearch.store.audit import user_of_this_machine

    caller = user_of_this_machine()
    return open_archive(store_uri(store), model=model, device=check_device(device), caller=caller)


def make_filters(
    camera: list[str] | None = None,
    source: list[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    **others: Any,
) -> "Filters":
    """Return the filters of a search; `others` are more fields of `Filters`."""
    from personsearch.store import Filters

    sources = not_empty(source, "--source")
    return Filters(
        cameras=not_empty(camera, "--camera"),
        sources=None if sources is None else [source_uri(one) for one in sources],
        since=parse_time(since),
        until=parse_time(until),
        **others,
    )


def source_uri(source: str) -> str:
    """Return a folder, file or live camera as a store knows it: files by their absolute path."""
    if ":" in source.partition("/")[0]:
        return source
    return str(Path.cwd() / Path(source).expanduser())


def parse_time(text: str | None) -> float | None:
    """Parse an ISO date or time to seconds since 1970; without an offset it is this machine's."""
    if text is None:
        return None
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r} is not a time; expected such as 2026-11-21 or 2026-11-21T13:45:00"
        ) from None


def show_time(seconds: float | None) -> str:
    """A time in this machine's zone; empty if it is not known."""
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec="seconds")


def show_position(seconds: float) -> str:
    """A position in a video as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def print_json(value: object, indent: int | None = 2) -> None:
    """Print plain values as JSON."""
    typer.echo(json.dumps(value, indent=indent))


def echo_first(lines: Sequence[str], limit: int = 20, *, err: bool = False) -> None:
    """Print the first lines, and how many more ``--json`` shows."""
    for line in lines[:limit]:
        echo(line, err=err)
    if len(lines) > limit:
        echo(f"  and {len(lines) - limit} more, see --json", err=err)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], no_wrap: Sequence[str] = ()
) -> None:
    """Print cells of plain text as a table."""
    from rich.markup import escape
    from rich.table import Table

    from personsearch.terminal import console

    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column in no_wrap, overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    console().print(table)
