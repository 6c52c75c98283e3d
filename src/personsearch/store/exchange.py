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
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from personsearch.durable import sync
from personsearch.errors import StoreError
from personsearch.store.exchange_shards import (
    ShardReader,
    ShardWriter,
    pack_thumbnails,
    pack_vectors,
    shard_name,
    write_whole,
)
from personsearch.store.exchange_tables import (
    TABLES,
    JsonWriter,
    ParquetWriter,
    load_pyarrow,
    read_jsonl,
    read_parquet,
)
from personsearch.store.merge import (
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
from personsearch.store.people import ModelIdentity
from personsearch.store.store import Store, open_store
from personsearch.types import FileStamp

FORMAT, VERSION = "personsearch store", 1
MANIFEST = "manifest.json"
EMBEDDING_ROWS, THUMBNAIL_ROWS = 100_000, 10_000
"""Rows a file."""


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
        return {f"{table}.{self.text}" for table in TABLES} | {
            shard_name(kind, number)
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
        load_pyarrow()
    partial = folder.with_name(f"{folder.name}.partial")
    with open_store(store) as opened, opened.snapshot():
        _remove_partial(partial)
        try:
            partial.mkdir(parents=True)
            counts = _write(opened, partial, format, progress)
            partial.rename(folder)
            sync(folder.parent)
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
    counts = dict.fromkeys(TABLES, 0)
    total = store.counts()["people"]
    with ExitStack() as stack:
        tables: dict[str, JsonWriter | ParquetWriter] = {}
        for name, columns in TABLES.items():
            path = folder / f"{name}.{format}"
            if format == "jsonl":
                tables[name] = stack.enter_context(JsonWriter(path, columns))
            else:
                tables[name] = stack.enter_context(ParquetWriter(path, columns))
        shards = [
            stack.enter_context(ShardWriter(folder, "embeddings", EMBEDDING_ROWS, pack_vectors)),
            stack.enter_context(ShardWriter(folder, "thumbnails", THUMBNAIL_ROWS, pack_thumbnails)),
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
    write_whole(folder / MANIFEST, (text + "\n").encode())
    sync(folder)
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
    if manifest.sha256 != manifest.digest() or set(counts) != set(TABLES) or min(rows) < 1:
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
    read = read_jsonl if manifest.text == "jsonl" else read_parquet
    paths = {name: folder / f"{name}.{manifest.text}" for name in TABLES}
    rows = {name: _Rows(read(paths[name], TABLES[name])) for name in TABLES}
    vectors = ShardReader(folder, "embeddings", manifest.embedding_rows)
    thumbnails = ShardReader(folder, "thumbnails", manifest.thumbnail_rows)
    before: tuple[bytes, bytes] | None = None
    counted = dict.fromkeys(TABLES, 0)
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_partial(partial: Path) -> None:
    """Removes what an export that was stopped has left."""
    if not partial.exists():
        return
    names = "|".join(TABLES)
    ours = re.compile(
        rf"(?:{names})\.(?:jsonl|parquet)|(?:embeddings|thumbnails)-\d+\.safetensors|{MANIFEST}"
    )
    if not partial.is_dir() or any(not ours.fullmatch(one.name) for one in partial.iterdir()):
        raise StoreError(f"{partial}: is in the way and no export; move it elsewhere")
    shutil.rmtree(partial)
