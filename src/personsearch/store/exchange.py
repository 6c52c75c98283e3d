"""Export of a store to a folder of open formats, and import.

    EXPORT/manifest.json                   format, model, retention, counts, SHA-256 of every file
    EXPORT/files.jsonl                     and pictures, tracks, people: one row a line; or .parquet
    EXPORT/embeddings-00000.safetensors    float16 (rows, D), 100,000 rows of people a file
    EXPORT/thumbnails-00000.safetensors    JPEG bytes one after the other, and where each begins

Rows refer to each other by number, from zero. Stores with equal contents have equal exports, byte
for byte, whatever ids people have.
"""

import hashlib
import json
import operator
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from personsearch.durable import sync
from personsearch.errors import PictureError, StoreError
from personsearch.media.opening import open_regular
from personsearch.parsing import parse_json
from personsearch.store import exchange_shards as shards
from personsearch.store import exchange_tables as tables
from personsearch.store import merge
from personsearch.store.audit import AuditLog
from personsearch.store.exchange_tables import TABLES
from personsearch.store.merge import ExchangeReport, FileUnit, Progress
from personsearch.store.people import ModelIdentity, PersonRow, PictureRow, TrackRow
from personsearch.store.store import Store, open_store
from personsearch.types import FileStamp

FORMAT, VERSION = "personsearch store", 1
MANIFEST = "manifest.json"
EMBEDDING_ROWS, THUMBNAIL_ROWS = 100_000, 10_000  # rows a file
MAX_DIM, MAX_ROWS = 2**16, 2**31  # of an embedding, and rows a file


# A database takes no halves of characters, which JSON can hold.
_Text = Annotated[str, AfterValidator(lambda text: text.encode().decode())]


class _Model(BaseModel, extra="forbid", strict=True):
    name: _Text
    fingerprint: _Text
    dim: int = Field(ge=1, le=MAX_DIM)
    weighted: bool


class _File(BaseModel, extra="forbid", strict=True):
    bytes: int
    sha256: str


class _Manifest(BaseModel, extra="forbid", strict=True):
    format: str
    version: int
    text: Literal["jsonl", "parquet"]
    model: _Model
    retention: float | None = Field(gt=0, allow_inf_nan=False)
    counts: dict[str, int]
    embedding_rows: int = Field(ge=1, le=MAX_ROWS)
    thumbnail_rows: int = Field(ge=1, le=MAX_ROWS)
    files: dict[str, _File]
    sha256: str = ""

    def digest(self) -> str:
        """SHA-256 of all other fields."""
        plain = self.model_dump(exclude={"sha256"})
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def expected_files(self) -> set[str]:
        """Names by counts and rows a file."""
        sizes = {"embeddings": self.embedding_rows, "thumbnails": self.thumbnail_rows}
        return {f"{table}.{self.text}" for table in TABLES} | {
            shards.shard_name(kind, number)
            for kind, rows in sizes.items()
            for number in range(-(-self.counts["people"] // rows))
        }


def export_store(
    store: Path | str,
    folder: Path | str,
    format: Literal["jsonl", "parquet"] = "jsonl",
    progress: Progress | None = None,
    *,
    caller: str | None = None,
    audit: AuditLog | None = None,
) -> dict[str, int]:
    """Write a store to a new folder; return the number of files, pictures, tracks and people.

    The folder is written completely or not at all. Others may search and index meanwhile. The
    format ``parquet`` of the tables needs the extra ``[parquet]``. `caller` is for the line in the
    audit log, which is the store's own by default.

    Raises:
        StoreError: the folder is there and not empty, the store is damaged, no room on the disk,
            or pyarrow is not installed.
    """
    folder = Path.cwd() / folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder}: is there already; name a folder that is not")
    if format == "parquet":
        tables.load_pyarrow()
    partial = folder.with_name(f"{folder.name}.partial")
    with open_store(store, caller=caller) as opened, opened.snapshot():
        details = {"folder": str(folder), "people": opened.count()}
        (audit or opened.audit).append("export", opened.caller, details)
        _remove_partial(partial)
        try:
            partial.mkdir(mode=0o700, parents=True)
            counts = _write(opened, partial, format, progress or (lambda *_: None))
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
    store: Store, folder: Path, format: Literal["jsonl", "parquet"], tell: Progress
) -> dict[str, int]:
    counts = dict.fromkeys(TABLES, 0)
    total = store.counts()["people"]
    with ExitStack() as stack:
        write = tables.write_jsonl if format == "jsonl" else tables.write_parquet
        written = {
            name: stack.enter_context(write(folder / f"{name}.{format}", columns))
            for name, columns in TABLES.items()
        }
        vectors, thumbnails = (
            stack.enter_context(shards.write_shards(folder, kind, size))
            for kind, size in (("embeddings", EMBEDDING_ROWS), ("thumbnails", THUMBNAIL_ROWS))
        )
        for number, unit in enumerate(merge.units_of(store)):
            unit.check(store.model.dim)
            first = (counts["pictures"], counts["tracks"])
            stamp = (unit.stamp.bytes, unit.stamp.changed)
            rows: dict[str, list[tuple[Any, ...]]] = {
                "files": [(unit.source, unit.name, *stamp, unit.camera, unit.state, unit.reason)],
                "pictures": [(number, *one) for one in unit.pictures],
                "tracks": [(number, *one) for one in unit.tracks],
                "people": [one.moved(*first) for one in unit.people],
            }
            for name, table in written.items():
                table(rows[name])
                counts[name] += len(rows[name])
            vectors(list(unit.vectors))
            thumbnails(unit.thumbnails)
            if unit.people:
                tell("writing", counts["people"], total)
    paths, files = sorted(folder.iterdir()), {}
    for done, path in enumerate(paths, start=1):
        sync(path)
        files[path.name] = _described(path)
        tell("checksums", done, len(paths))
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
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    sync(folder / MANIFEST)
    sync(folder)
    return counts


def import_store(
    folder: Path | str,
    into: Path | str,
    progress: Progress | None = None,
    *,
    apply_erasures: bool = False,
    confirm: merge.Confirm | None = None,
    caller: str | None = None,
) -> ExchangeReport:
    """Copy an export into a store, which is created if there is none.

    The whole export is checked before anything is written. An interrupted import may be run again
    and continues. A new store takes the export's retention time; an existing one keeps its own.
    For `apply_erasures`, `confirm` and `caller` see `merge_stores`.

    Raises:
        StoreError: the export is damaged, incomplete, of a newer version or another model; or the
            store cannot be written.
    """
    folder, into = Path(folder), Path(into)
    tell = progress or (lambda *_: None)
    manifest = _read_manifest(folder)
    model = ModelIdentity(**manifest.model.model_dump())
    for done, (name, file) in enumerate(sorted(manifest.files.items()), start=1):
        try:
            found = _described(folder / name)
        except PictureError as error:
            raise StoreError(f"{error}; export again") from None
        if found != file:
            raise StoreError(
                f"{folder / name}: is damaged, it has {found.bytes} bytes of another checksum, "
                f"expected {file.bytes}; export again"
            )
        tell("checksums", done, len(manifest.files))
    total = manifest.counts["files"]
    for done, unit in enumerate(_units(folder, manifest)):
        unit.check(model.dim)
        if done % 256 == 0:
            tell("checking", done, total)
    files = partial(_units, folder, manifest)
    exchange = merge.Exchange("import", folder, files, total, apply_erasures, confirm)
    return merge.bring(into, model, manifest.retention, exchange, progress, caller)


def _read_manifest(folder: Path) -> _Manifest:
    path = folder / MANIFEST
    try:
        with open_regular(path, "manifest") as file:
            plain = parse_json(file.read())
    except PictureError as error:
        raise StoreError(
            f"{error}; expected a folder that was written by: personsearch store export"
        ) from None
    except ValueError:
        raise StoreError(f"{path}: is damaged, it is not JSON; export again") from None
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
        key = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: is damaged ({key}: {first['msg']}); export again") from None
    counts = manifest.counts
    rows = (manifest.embedding_rows, manifest.thumbnail_rows)
    if manifest.sha256 != manifest.digest() or set(counts) != set(TABLES):
        raise StoreError(f"{path}: is damaged, its own checksum is wrong; export again")
    if min(counts.values()) < 0 or max(counts.values()) > 2**40:
        raise StoreError(f"{path}: is damaged, it counts {counts}; export again")
    # Counted before the names are listed, so that no count fills the memory.
    if counts["people"] > len(manifest.files) * max(rows) or (
        manifest.expected_files() != set(manifest.files)
    ):
        raise StoreError(f"{path}: is damaged, its list of files is incomplete; export again")
    return manifest


def _units(folder: Path, manifest: _Manifest) -> Iterator[FileUnit]:
    """Every file of an export, read from its tables and shards side by side."""
    read = tables.read_jsonl if manifest.text == "jsonl" else tables.read_parquet
    paths = {name: folder / f"{name}.{manifest.text}" for name in TABLES}
    rows = {name: _Rows(read(paths[name], TABLES[name])) for name in TABLES}
    vectors = shards.ShardReader(folder, "embeddings", manifest.embedding_rows)
    thumbnails = shards.ShardReader(folder, "thumbnails", manifest.thumbnail_rows)
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
        found = {
            table: list(rows[table].take_while(partial(operator.eq, number)))
            for table in ("pictures", "tracks")
        }
        last = first["pictures"] + len(found["pictures"])
        found["people"] = list(rows["people"].take_while(partial(operator.gt, last)))
        for table, taken in (found | {"files": [file]}).items():
            counted[table] += len(taken)
        shift = (-first["pictures"], -first["tracks"])
        begin, end = first["people"], counted["people"]
        yield FileUnit(
            *(source, name, FileStamp(size, changed), camera, state, reason),
            [PictureRow(*row[1:]) for row in found["pictures"]],
            [TrackRow(*row[1:]) for row in found["tracks"]],
            [PersonRow(*row).moved(*shift) for row in found["people"]],
            vectors.vectors(begin, end, manifest.model.dim),
            thumbnails.thumbnails(begin, end),
        )
    if counted != manifest.counts or any(table.next() is not None for table in rows.values()):
        raise StoreError(
            f"{folder}: is damaged, it holds other rows than its manifest lists; export again"
        )


class _Rows:
    """Rows of a table with one row of lookahead."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def next(self) -> tuple[Any, ...] | None:
        """Take one row; None at the end."""
        row = self._next
        self._next = next(self._rows, None)
        return row

    def take_while(self, wanted: Callable[[int], bool]) -> Iterator[tuple[Any, ...]]:
        """Take rows while their first column is wanted."""
        while self._next is not None and wanted(self._next[0]):
            row = self.next()
            assert row is not None
            yield row


def _described(path: Path) -> _File:
    with open_regular(path, "data file") as file:  # a FIFO or a device would never end
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _File(bytes=file.tell(), sha256=digest)


def _remove_partial(partial: Path) -> None:
    """Remove the remains of an interrupted export."""
    if not partial.exists():
        return
    names = "|".join(TABLES)
    ours = re.compile(
        rf"(?:{names})\.(?:jsonl|parquet)|(?:embeddings|thumbnails)-\d+\.safetensors|{MANIFEST}"
    )
    if not partial.is_dir() or any(not ours.fullmatch(one.name) for one in partial.iterdir()):
        raise StoreError(f"{partial}: is in the way and not an export; move it elsewhere")
    shutil.rmtree(partial)
