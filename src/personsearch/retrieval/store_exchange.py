"""A store as a folder of open formats, to take elsewhere or keep; and back.

    EXPORT/manifest.json                   format, model, retention, counts, SHA-256 of every file
    EXPORT/files.jsonl                     and pictures, tracks, people: one row a line; or .parquet
    EXPORT/embeddings-00000.safetensors    float16 (rows, D), 100,000 rows of people a file
    EXPORT/thumbnails-00000.safetensors    JPEG bytes one after the other, and where each begins

Rows name each other by number, from zero. What is the same in two stores is the same in their
exports, byte for byte, whatever ids people have.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from personsearch.errors import StoreError
from personsearch.retrieval.store import FileStamp, ModelIdentity, Store, open_store
from personsearch.retrieval.store_merge import (
    ExchangeReport,
    FileUnit,
    PersonRow,
    PictureRow,
    Progress,
    TrackRow,
    open_or_make,
    take,
    units_of,
)

FORMAT, VERSION = "personsearch store", 1
MANIFEST = "manifest.json"
EMBEDDING_ROWS, THUMBNAIL_ROWS = 100_000, 10_000
"""Rows a file."""

_BATCH = 10_000
_Column = tuple[str, type, bool]  # name, type, whether it may be None
_TABLES: dict[str, tuple[_Column, ...]] = {
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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Model(_Strict):
    name: str
    fingerprint: str
    dim: int
    weighted: bool


class _File(_Strict):
    bytes: int
    sha256: str


class _Manifest(_Strict):
    format: str
    version: int
    text: Literal["jsonl", "parquet"]
    model: _Model
    retention: float | None
    counts: dict[str, int]
    embedding_rows: int
    thumbnail_rows: int
    files: dict[str, _File]
    sha256: str = ""

    def digest(self) -> str:
        """SHA-256 of everything else."""
        plain = self.model_dump(exclude={"sha256"})
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def expected_files(self) -> set[str]:
        """By what the rest says."""
        shards = {"embeddings": self.embedding_rows, "thumbnails": self.thumbnail_rows}
        return {f"{table}.{self.text}" for table in _TABLES} | {
            _shard(kind, number)
            for kind, rows in shards.items()
            for number in range(-(-self.counts["people"] // rows))
        }


def export_store(
    store: Path | str,
    folder: Path | str,
    format: Literal["jsonl", "parquet"] = "jsonl",
    progress: Progress | None = None,
) -> dict[str, int]:
    """Writes a store to a new folder; says how many files, pictures, tracks and people.

    The folder is there whole, or not at all. Others may search and index meanwhile.

    Args:
        store: the store's folder.
        folder: that is to be made.
        format: of what is text; ``parquet`` needs the extra ``[parquet]``.
        progress: called from time to time.

    Raises:
        StoreError: the folder is there and not empty, the store is damaged, no room on the disk,
            or pyarrow is not installed.
    """
    folder = Path.cwd() / folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder}: is there already; name a folder that is not")
    if format == "parquet":
        _pyarrow()
    partial = folder.with_name(f"{folder.name}.partial")
    with open_store(store) as opened, opened.snapshot():
        _remove_partial(partial)
        try:
            partial.mkdir(parents=True)
            counts = _write(opened, partial, format, progress)
            partial.rename(folder)
            _sync(folder.parent)
        except BaseException as error:
            with suppress(OSError, StoreError):
                _remove_partial(partial)
            if isinstance(error, OSError):
                raise StoreError(
                    f"{folder}: cannot be written ({error.strerror or error}); nothing of it is "
                    "kept, make room or name another folder"
                ) from None
            raise
    return counts


def _write(
    store: Store, folder: Path, format: Literal["jsonl", "parquet"], progress: Progress | None
) -> dict[str, int]:
    counts = dict.fromkeys(_TABLES, 0)
    total = store.counts()["people"]
    with ExitStack() as stack:
        writer = _JsonWriter if format == "jsonl" else _ParquetWriter
        tables = {
            name: stack.enter_context(writer(folder / f"{name}.{format}", columns))
            for name, columns in _TABLES.items()
        }
        shards = [
            stack.enter_context(_Shards(folder, "embeddings", EMBEDDING_ROWS, _pack_vectors)),
            stack.enter_context(_Shards(folder, "thumbnails", THUMBNAIL_ROWS, _pack_thumbnails)),
        ]
        for number, unit in enumerate(units_of(store)):
            unit.check(store.model.dim)
            first = dict(counts)
            stamp = (unit.stamp.bytes, unit.stamp.changed)
            rows: dict[str, list[tuple[Any, ...]]] = {
                "files": [(unit.source, unit.name, *stamp, unit.camera, unit.state, unit.reason)],
                "pictures": [(number, *vars(one).values()) for one in unit.pictures],
                "tracks": [(number, *vars(one).values()) for one in unit.tracks],
                "people": [_numbered(one, first) for one in unit.people],
            }
            for name, table in tables.items():
                table.write(rows[name])
                counts[name] += len(rows[name])
            shards[0].write(list(unit.vectors))
            shards[1].write(unit.thumbnails)
            if progress and unit.people:
                progress("writing", counts["people"], total)
    names = sorted(path.name for path in folder.iterdir())
    files = {}
    for done, name in enumerate(names):
        path = folder / name
        files[name] = _File(bytes=path.stat().st_size, sha256=_digest(path))
        if progress:
            progress("checksums", done + 1, len(names))
    manifest = _Manifest(
        format=FORMAT,
        version=VERSION,
        text=format,
        model=_Model(**vars(store.model)),
        retention=store.retention(),
        counts=counts,
        embedding_rows=EMBEDDING_ROWS,
        thumbnail_rows=THUMBNAIL_ROWS,
        files=files,
    )
    manifest.sha256 = manifest.digest()
    text = json.dumps(manifest.model_dump(), indent=2, sort_keys=True, ensure_ascii=False)
    _write_whole(folder / MANIFEST, (text + "\n").encode())
    _sync(folder)
    return counts


def _numbered(person: PersonRow, first: dict[str, int]) -> tuple[Any, ...]:
    """A person's row, by numbers in the whole export."""
    picture, track, *rest = vars(person).values()
    whole = None if track is None else first["tracks"] + track
    return (first["pictures"] + picture, whole, *rest)


def import_store(
    folder: Path | str, into: Path | str, progress: Progress | None = None
) -> ExchangeReport:
    """Brings everyone of an export into a store, which is made if there is none.

    All of the export is checked before anything is written. Stopped while writing, it may be run
    again and goes on. A new store takes the export's retention time; one that is there keeps its
    own.

    Args:
        folder: from `export_store`.
        into: a store's folder.
        progress: called from time to time.

    Raises:
        StoreError: the export is damaged, incomplete, of a newer version or another model; or the
            store cannot be written.
    """
    folder, into = Path(folder), Path(into)
    manifest = _read_manifest(folder)
    model = ModelIdentity(**manifest.model.model_dump())
    for done, (name, file) in enumerate(sorted(manifest.files.items())):
        _check_file(folder / name, file)
        if progress:
            progress("checksums", done + 1, len(manifest.files))
    total = manifest.counts["files"]
    for done, unit in enumerate(_units(folder, manifest)):
        unit.check(model.dim)
        if progress and done % 256 == 0:
            progress("checking", done, total)
    with open_or_make(into, model, manifest.retention) as store:
        return take(store, _units(folder, manifest), total, progress)


def _read_manifest(folder: Path) -> _Manifest:
    path = folder / MANIFEST
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror}); expected a folder that was written by: "
            "personsearch store export"
        ) from None
    except (ValueError, RecursionError):
        raise StoreError(f"{path}: is damaged, it is no JSON; export again") from None
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise StoreError(f"{path}: is not the manifest of a store's export")
    version = plain.get("version")
    if isinstance(version, int) and version > VERSION:
        raise StoreError(
            f"{path}: was written by a newer version of personsearch (format {version}, this one "
            f"knows {VERSION}); update personsearch"
        )
    try:
        manifest = _Manifest.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: is damaged ({place}: {first['msg']}); export again") from None
    counts = manifest.counts
    rows = (manifest.embedding_rows, manifest.thumbnail_rows, manifest.model.dim)
    if manifest.sha256 != manifest.digest() or set(counts) != set(_TABLES) or min(rows) < 1:
        raise StoreError(f"{path}: is damaged, its own checksum is another; export again")
    if min(counts.values()) < 0 or max(counts.values()) > 2**40:
        raise StoreError(f"{path}: is damaged, it counts {counts}; export again")
    # Shards are counted before they are named, so that no count fills the memory.
    if counts["people"] > len(manifest.files) * max(rows[:2]) or (
        manifest.expected_files() != set(manifest.files)
    ):
        raise StoreError(f"{path}: is damaged, its list of files is not whole; export again")
    return manifest


def _check_file(path: Path, expected: _File) -> None:
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            raise StoreError(
                f"{path}: is damaged, it has {size} bytes, expected {expected.bytes}; export again"
            )
        digest = _digest(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); export again") from None
    if digest != expected.sha256:
        raise StoreError(f"{path}: is damaged, its checksum is another; export again")


def _units(folder: Path, manifest: _Manifest) -> Iterator[FileUnit]:
    """Every file of an export, whose parts are read side by side."""
    read = _read_jsonl if manifest.text == "jsonl" else _read_parquet
    paths = {name: folder / f"{name}.{manifest.text}" for name in _TABLES}
    rows = {name: _Rows(read(paths[name], _TABLES[name])) for name in _TABLES}
    vectors = _ShardReader(folder, "embeddings", manifest.embedding_rows)
    thumbnails = _ShardReader(folder, "thumbnails", manifest.thumbnail_rows)
    before: tuple[bytes, bytes] | None = None
    counted = dict.fromkeys(_TABLES, 0)
    for number in range(manifest.counts["files"]):
        file = rows["files"].next()
        if file is None:
            break
        source, name, size, changed, camera, state, reason = file
        order = (source.encode(), name.encode())
        if before is not None and order <= before:
            raise StoreError(f"{paths['files']}: is not in order at row {number}; export again")
        before = order
        first = dict(counted)
        pictures = [PictureRow(*row[1:]) for row in rows["pictures"].while_first(number)]
        tracks = [TrackRow(*row[1:]) for row in rows["tracks"].while_first(number)]
        last = first["pictures"] + len(pictures)
        people = [
            PersonRow(
                row[0] - first["pictures"],
                None if row[1] is None else row[1] - first["tracks"],
                *row[2:],
            )
            for row in rows["people"].while_below(last)
        ]
        begin, end = first["people"], first["people"] + len(people)
        unit = FileUnit(
            *(source, name, FileStamp(size, changed), camera, state, reason),
            *(pictures, tracks, people),
            vectors=vectors.vectors(begin, end, manifest.model.dim),
            thumbnails=thumbnails.thumbnails(begin, end),
        )
        parts = {"files": 1, "pictures": len(pictures), "tracks": len(tracks)}
        for part, count in (parts | {"people": len(people)}).items():
            counted[part] += count
        yield unit
    if counted != manifest.counts or any(table.next() is not None for table in rows.values()):
        raise StoreError(
            f"{folder}: is damaged, it holds other rows than its manifest says; export again"
        )


class _Rows:
    """Rows that can be looked at before they are taken."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def next(self) -> tuple[Any, ...] | None:
        """Takes one; None at the end."""
        row = self._next
        self._next = next(self._rows, None)
        return row

    def while_first(self, value: int) -> Iterator[tuple[Any, ...]]:
        """Takes rows whose first column is a value."""
        return self._while(lambda first: first == value)

    def while_below(self, value: int) -> Iterator[tuple[Any, ...]]:
        """Takes rows whose first column is below a value."""
        return self._while(lambda first: first < value)

    def _while(self, wanted: Callable[[int], bool]) -> Iterator[tuple[Any, ...]]:
        while self._next is not None and wanted(self._next[0]):
            row = self.next()
            assert row is not None
            yield row


# Text.


class _Writer(Protocol):
    def write(self, rows: list[tuple[Any, ...]]) -> None:
        """Adds rows."""


class _JsonWriter:
    """One object a line."""

    def __init__(self, path: Path, columns: tuple[_Column, ...]) -> None:
        self._names = [name for name, _, _ in columns]
        self._file = path.open("wb")

    def write(self, rows: list[tuple[Any, ...]]) -> None:
        """Adds rows."""
        for row in rows:
            plain = dict(zip(self._names, row, strict=True))
            line = json.dumps(plain, ensure_ascii=False, allow_nan=False)
            self._file.write(line.encode() + b"\n")

    def __enter__(self) -> "_JsonWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        _close(self._file, kind is None)


class _ParquetWriter:
    """Row groups of the same size, whatever rows come together."""

    def __init__(self, path: Path, columns: tuple[_Column, ...]) -> None:
        arrow = _pyarrow()
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

    def __enter__(self) -> "_ParquetWriter":
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


def _read_jsonl(path: Path, columns: tuple[_Column, ...]) -> Iterator[tuple[Any, ...]]:
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


def _read_parquet(path: Path, columns: tuple[_Column, ...]) -> Iterator[tuple[Any, ...]]:
    arrow = _pyarrow()
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
    path: Path, number: int, columns: tuple[_Column, ...], row: tuple[Any, ...]
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


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise StoreError(
            "Parquet needs pyarrow; install it with: pip install 'personsearch[parquet]', or use "
            "jsonl"
        ) from None
    return pyarrow


# Embeddings and thumbnails.


def _shard(kind: str, number: int) -> str:
    return f"{kind}-{number:05}.safetensors"


def _pack_vectors(rows: list[Any]) -> dict[str, NDArray[Any]]:
    return {"embeddings": np.stack(rows)}


def _pack_thumbnails(rows: list[Any]) -> dict[str, NDArray[Any]]:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return {"jpeg": np.frombuffer(b"".join(rows), np.uint8), "offsets": offsets}


class _Shards:
    """Rows into files of so many each."""

    def __init__(
        self,
        folder: Path,
        kind: str,
        rows: int,
        pack: Callable[[list[Any]], dict[str, NDArray[Any]]],
    ) -> None:
        self._folder, self._kind, self._size, self._pack = folder, kind, rows, pack
        self._rows: list[Any] = []
        self._number = 0

    def write(self, rows: list[Any]) -> None:
        """Adds rows."""
        self._rows += rows
        while len(self._rows) >= self._size:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows[: self._size], self._rows[self._size :]
        path = self._folder / _shard(self._kind, self._number)
        _write_whole(path, save(self._pack(rows)))
        self._number += 1

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._rows:
            self._flush()


@dataclass
class _ShardReader:
    """Rows out of such files, of which one is open."""

    folder: Path
    kind: str
    size: int
    _number: int = -1
    _tensors: dict[str, NDArray[Any]] | None = None

    def _parts(self, begin: int, end: int) -> Iterator[tuple[Path, dict[str, Any], int, int]]:
        """Path, tensors, and first and last row of each file that rows lie in."""
        while begin < end:
            number, first = divmod(begin, self.size)
            path = self.folder / _shard(self.kind, number)
            if number != self._number or self._tensors is None:
                try:
                    with safe_open(path, framework="numpy") as file:
                        self._tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                except (SafetensorError, OSError, ValueError, TypeError) as error:
                    raise StoreError(f"{path}: is damaged ({error}); export again") from None
                self._number = number
            count = min(self.size - first, end - begin)
            yield path, self._tensors, first, first + count
            begin += count

    def vectors(self, begin: int, end: int, dim: int) -> NDArray[np.float16]:
        """Embeddings (N, D) of some rows."""
        parts = [np.zeros((0, dim), np.float16)]
        for path, tensors, first, last in self._parts(begin, end):
            found = tensors.get("embeddings")
            if found is None or found.dtype != np.float16 or found.shape[1:] != (dim,):
                what = "none" if found is None else f"{found.dtype} {found.shape}"
                raise StoreError(f"{path}: embeddings are {what}, expected float16 (N, {dim})")
            parts.append(found[first:last])
        return np.concatenate(parts)

    def thumbnails(self, begin: int, end: int) -> list[bytes]:
        """Thumbnails of some rows."""
        found: list[bytes] = []
        for path, tensors, first, last in self._parts(begin, end):
            jpeg, offsets = tensors.get("jpeg"), tensors.get("offsets")
            if jpeg is None or jpeg.dtype != np.uint8 or jpeg.ndim != 1 or offsets is None:
                raise StoreError(f"{path}: holds no thumbnails; export again")
            given = offsets[first : last + 1].tolist() if offsets.dtype == np.int64 else []
            if len(given) != last - first + 1 or given != sorted(given) or given[0] < 0:
                raise StoreError(f"{path}: does not say where thumbnails begin; export again")
            if given[-1] > len(jpeg):
                raise StoreError(f"{path}: a thumbnail ends outside of it; export again")
            found += [jpeg[a:b].tobytes() for a, b in pairwise(given)]
        return found


# Files.


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


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


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_partial(partial: Path) -> None:
    """Removes what an export that was stopped has left."""
    if not partial.exists():
        return
    names = "|".join(_TABLES)
    ours = re.compile(
        rf"(?:{names})\.(?:jsonl|parquet)|(?:embeddings|thumbnails)-\d+\.safetensors|{MANIFEST}"
    )
    if not partial.is_dir() or any(not ours.fullmatch(one.name) for one in partial.iterdir()):
        raise StoreError(f"{partial}: is in the way and no export; move it elsewhere")
    shutil.rmtree(partial)
