"""Tables of a store's export, as JSON lines or Parquet: one row after the other, out and in."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from personsearch.errors import StoreError

_BATCH = 10_000  # rows of a Parquet row group
Column = tuple[str, type, bool]
"""Name, type, and whether it may be None."""

TABLES: dict[str, tuple[Column, ...]] = {
    "files": (
        *(("source", str, False), ("name", str, False), ("bytes", int, False)),
        *(("changed", int, False), ("camera", str, True), ("state", str, False)),
        ("reason", str, False),
    ),
    "pictures": (
        *(("file", int, False), ("frame", int, True), ("position", float, True)),
        *(("time", float, True), ("added", float, False)),
        *(("width", int, False), ("height", int, False)),
    ),
    "tracks": (
        *(("file", int, False), ("first", float, False), ("last", float, False)),
        ("views", int, False),
    ),
    "people": (
        *(("picture", int, False), ("track", int, True)),
        *((name, float, False) for name in ("x1", "y1", "x2", "y2", "score")),
    ),
}


class JsonWriter:
    """One object a line."""

    def __init__(self, path: Path, columns: tuple[Column, ...]) -> None:
        self._names = [name for name, _, _ in columns]
        self._file = path.open("wb")

    def write(self, rows: list[tuple[Any, ...]]) -> None:
        """Adds rows."""
        for row in rows:
            plain = dict(zip(self._names, row, strict=True))
            line = json.dumps(plain, ensure_ascii=False, allow_nan=False)
            self._file.write(line.encode() + b"\n")

    def __enter__(self) -> "JsonWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        _close(self._file, kind is None)


class ParquetWriter:
    """Row groups of the same size, whatever rows come together."""

    def __init__(self, path: Path, columns: tuple[Column, ...]) -> None:
        arrow = load_pyarrow()
        import pyarrow.parquet

        types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
        self._schema = arrow.schema(
            [arrow.field(name, types[kind], nullable) for name, kind, nullable in columns]
        )
        self._arrow, self._rows = arrow, list[tuple[Any, ...]]()
        self._file = path.open("wb")
        self._writer = pyarrow.parquet.ParquetWriter(
            self._file, self._schema, compression="zstd", version="2.6"
        )

    def write(self, rows: list[tuple[Any, ...]]) -> None:
        """Adds rows."""
        self._rows += rows
        while len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        group, self._rows = self._rows[:_BATCH], self._rows[_BATCH:]
        names = self._schema.names
        plain = [dict(zip(names, row, strict=True)) for row in group]
        self._writer.write_table(self._arrow.Table.from_pylist(plain, self._schema))

    def __enter__(self) -> "ParquetWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        whole = kind is None
        try:
            if whole:
                if self._rows:
                    self._flush()
                self._writer.close()
            else:
                with suppress(Exception):  # its end cannot be written, either
                    self._writer.close()
        except BaseException:
            whole = False
            raise
        finally:
            _close(self._file, whole)


def read_jsonl(path: Path, columns: tuple[Column, ...]) -> Iterator[tuple[Any, ...]]:
    """Rows of a file.

    Raises:
        StoreError: a row that is not as expected.
    """
    names = [name for name, _, _ in columns]
    with path.open("rb") as file:
        for number, line in enumerate(file):
            try:
                plain = json.loads(line)
            except (ValueError, RecursionError):
                raise StoreError(f"{path}: row {number} is no JSON; export again") from None
            if not isinstance(plain, dict) or list(plain) != names:
                raise StoreError(
                    f"{path}: row {number} has other columns than {', '.join(names)}; export again"
                )
            yield _typed(path, number, columns, tuple(plain.values()))


def read_parquet(path: Path, columns: tuple[Column, ...]) -> Iterator[tuple[Any, ...]]:
    """Rows of a file.

    Raises:
        StoreError: a row that is not as expected, or pyarrow is not installed.
    """
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


def _typed(
    path: Path, number: int, columns: tuple[Column, ...], row: tuple[Any, ...]
) -> tuple[Any, ...]:
    """A row as it came, if each value is of its column's type."""
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
    """The module.

    Raises:
        StoreError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise StoreError(
            "Parquet needs pyarrow; install it with: pip install 'personsearch[parquet]', or use "
            "jsonl"
        ) from None
    return pyarrow


def _close(file: Any, whole: bool) -> None:
    """Closes a file; on the disk to its last byte, if it is whole."""
    try:
        if whole:
            file.flush()
            os.fsync(file.fileno())
        file.close()
    except OSError:
        if whole:
            raise
