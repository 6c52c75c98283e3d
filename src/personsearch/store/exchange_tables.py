"""The tables of an export, as JSON lines or Parquet, and the batches in which rows are written."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

from personsearch.errors import StoreError
from personsearch.parsing import parse_json
from personsearch.store.people import PersonRow, PictureRow, TrackRow

_BATCH = 10_000  # rows of a Parquet row group
Row = tuple[Any, ...]
Write = Callable[[list[Any]], object]  # called with the next rows
Column = tuple[str, type, bool]  # name, type, and whether it may be None


def _columns(row: type[NamedTuple]) -> tuple[Column, ...]:
    """The columns of a record, by its annotations."""
    kinds = {name: get_args(kind) or (kind,) for name, kind in get_type_hints(row).items()}
    return tuple((name, kind[0], NoneType in kind) for name, kind in kinds.items())


TABLES: dict[str, tuple[Column, ...]] = {
    "files": (
        *(("source", str, False), ("name", str, False), ("bytes", int, False)),
        *(("changed", int, False), ("camera", str, True), ("state", str, False)),
        ("reason", str, False),
    ),
    "pictures": (("file", int, False), *_columns(PictureRow)),
    "tracks": (("file", int, False), *_columns(TrackRow)),
    "people": _columns(PersonRow),
}


@contextmanager
def batches(size: int, flush: Write) -> Iterator[Write]:
    """Collect rows and flush them in batches of one size, the last of which may be smaller."""
    waiting: list[Any] = []

    def write(rows: list[Any]) -> None:
        waiting.extend(rows)
        while len(waiting) >= size:
            batch, waiting[:] = waiting[:size], waiting[size:]
            flush(batch)

    yield write
    if waiting:
        flush(waiting)


@contextmanager
def write_jsonl(path: Path, columns: tuple[Column, ...]) -> Iterator[Write]:
    """Write one object a line."""
    names = [name for name, _, _ in columns]
    with path.open("wb") as file:

        def write(rows: list[Row]) -> None:
            for row in rows:
                plain = dict(zip(names, row, strict=True))
                file.write(json.dumps(plain, ensure_ascii=False, allow_nan=False).encode() + b"\n")

        yield write


@contextmanager
def write_parquet(path: Path, columns: tuple[Column, ...]) -> Iterator[Write]:
    """Write row groups of one size."""
    arrow = load_pyarrow()
    import pyarrow.parquet

    types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([arrow.field(name, types[kind], none) for name, kind, none in columns])

    def flush(rows: list[Row]) -> None:
        plain = [dict(zip(schema.names, row, strict=True)) for row in rows]
        file.write_table(arrow.Table.from_pylist(plain, schema))

    with (
        pyarrow.parquet.ParquetWriter(path, schema, compression="zstd", version="2.6") as file,
        batches(_BATCH, flush) as write,
    ):
        yield write


def read_jsonl(path: Path, columns: tuple[Column, ...]) -> Iterator[Row]:
    """Read the rows of a file, each checked."""
    names = [name for name, _, _ in columns]
    with path.open("rb") as file:
        for number, line in enumerate(file):
            try:
                plain = parse_json(line)
            except ValueError:
                raise StoreError(f"{path}: row {number} is not JSON; export again") from None
            if not isinstance(plain, dict) or list(plain) != names:
                raise StoreError(
                    f"{path}: row {number} has other columns than {', '.join(names)}; export again"
                )
            yield _typed(path, number, columns, tuple(plain.values()))


def read_parquet(path: Path, columns: tuple[Column, ...]) -> Iterator[Row]:
    """Read the rows of a file, each checked."""
    arrow = load_pyarrow()
    import pyarrow.parquet

    names = [name for name, _, _ in columns]
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.schema_arrow.names != names:
                raise StoreError(f"{path}: has other columns than {', '.join(names)}; export again")
            for batch in file.iter_batches(_BATCH):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield _typed(path, number, columns, row)
                    number += 1
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(f"{path}: is damaged ({reason}); export again") from None


def _typed(path: Path, number: int, columns: tuple[Column, ...], row: Row) -> Row:
    """The row, if each value has its column's type."""
    for (name, kind, nullable), value in zip(columns, row, strict=True):
        fits = (value is None and nullable) or type(value) is kind
        if fits and kind is int and value is not None:
            fits = -(2**63) <= value < 2**63
        if fits and kind is str and value is not None:
            fits = not re.search("[\ud800-\udfff]", value)
        if not fits:
            raise StoreError(f"{path}: row {number} has a wrong {name}; export again")
    return row


def load_pyarrow() -> Any:
    """Import pyarrow, or explain how to install it."""
    try:
        import pyarrow
    except ImportError:
        raise StoreError(
            "Parquet needs pyarrow; install it with: pip install 'personsearch[parquet]', or use "
            "jsonl"
        ) from None
    return pyarrow
