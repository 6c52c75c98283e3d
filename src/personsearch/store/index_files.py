"""Files of the vector index. They are derived from the store and can be rebuilt at any time.

    STORE/index/lock                  held while files are written or deleted
    STORE/index/AFTER_LAST.rows       people with AFTER < id <= LAST, ready to be scanned
    STORE/index/AFTER_LAST.lists      the same people in inverted lists, by nearest centroid

A file is faiss's own, followed by more columns, a description, and a checksum over all of it; it is
written under a temporary name, then renamed. A process that deletes people first deletes the files
that hold them, and both only with the lock: so no file can be made of people about to be erased.
"""

import json
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from personsearch.durable import sync
from personsearch.errors import StoreError
from personsearch.parsing import parse_json

FOLDER, LOCK = "index", "lock"
ROWS, LISTS = ".rows", ".lists"
PATIENCE = 60.0  # seconds that a deletion waits for the lock

_TEMPORARY = "unfinished"
_FORMAT = b"psindex1"
_TAIL = 20  # checksum, length of the description, format
_CHUNK = 1 << 24

Span = tuple[int, int]  # the people with first < id <= second


@dataclass(frozen=True, eq=False)
class IndexFile:
    """A file that was read, mapped to memory."""

    index: Any  # faiss's
    columns: Mapping[str, NDArray[Any]]  # more arrays in the file
    about: Mapping[str, Any]  # its description
    checksum: int  # of the whole file


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold the right to change the index files; False if it cannot be had in so many seconds."""
    lock = FileLock(folder / FOLDER / LOCK, mode=0o600)
    with suppress(OSError):  # of which a timeout is one
        (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
        lock.acquire(timeout=patience, poll_interval=0.02)
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextmanager
def without_blocks(
    folder: Path, blocks: NDArray[np.int64], *, centroids_too: bool
) -> Iterator[None]:
    """Delete the files that hold people of some blocks of ids, and prevent new ones meanwhile.

    With `centroids_too` all centroids are deleted: they were learned from everyone.
    """
    if not len(blocks) or not (folder / FOLDER).is_dir():
        yield
        return
    with locked(folder, PATIENCE) as held:
        if not held:
            raise StoreError(
                f"{folder}: the files in {FOLDER}/ cannot be changed, or another process is "
                "writing them; end it, and run the same command again"
            )
        for path in (folder / FOLDER).iterdir():
            span = span_of(path)
            if span is None:
                stale = path.name == _TEMPORARY
            else:
                stale = touches(span, blocks) or (centroids_too and path.suffix == LISTS)
            if stale:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise StoreError(
                        f"{path}: holds copies of people to be erased, and cannot be deleted "
                        f"({error.strerror})"
                    ) from None
        yield


def touches(span: Span, blocks: NDArray[np.int64]) -> bool:
    """Whether a span has ids in some blocks of 1,024."""
    return bool(((blocks >= (span[0] + 1) >> 10) & (blocks <= span[1] >> 10)).any())


def span_of(path: Path) -> Span | None:
    """Return the span of an index file; None for any other file."""
    after, dash, last = path.stem.rpartition("_")
    if path.suffix not in (ROWS, LISTS) or not dash:
        return None
    try:
        return int(after), int(last)
    except ValueError:
        return None


def path_of(folder: Path, span: Span, suffix: str) -> Path:
    """Return the path of an index file of a store."""
    return folder / FOLDER / f"{span[0]}_{span[1]}{suffix}"


def spans(folder: Path) -> list[Span]:
    """Return the spans of a store's files of rows, ascending."""
    try:
        found = [span_of(path) for path in (folder / FOLDER).iterdir() if path.suffix == ROWS]
    except OSError:
        return []
    return sorted(one for one in found if one is not None)


def noted_revisions(folder: Path) -> list[int]:
    """Return the store's revisions that the descriptions of index files note."""
    found = []
    for span in spans(folder):
        damaged = suppress(OSError, ValueError, KeyError, TypeError)
        with damaged, path_of(folder, span, ROWS).open("rb") as file:
            file.seek(-_TAIL, os.SEEK_END)
            length = int.from_bytes(file.read()[4:12], "little")
            file.seek(-_TAIL - length, os.SEEK_END)
            found.append(int(parse_json(file.read(length))["changes"]))
    return found


def write(path: Path, index: Any, columns: Mapping[str, NDArray[Any]], about: Any) -> None:
    """Write a file completely or not at all; call it with the lock only."""
    import faiss

    unfinished = path.with_name(_TEMPORARY)
    try:
        try:
            faiss.write_index(index, str(unfinished))
        except RuntimeError as error:
            raise OSError(str(error)) from None
        unfinished.chmod(0o600)
        with unfinished.open("r+b") as file:
            layout = []
            for column, values in columns.items():
                file.seek(0, os.SEEK_END)
                file.write(b"\0" * (-file.tell() % 64))
                layout.append((column, values.dtype.str, values.shape, file.tell()))
                file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            text = json.dumps({"columns": layout, **about}).encode()
            file.seek(0, os.SEEK_END)
            file.write(text)
            file.seek(0)
            checksum = 0
            while chunk := file.read(_CHUNK):
                checksum = zlib.crc32(chunk, checksum)
            file.write(checksum.to_bytes(4, "little") + len(text).to_bytes(8, "little") + _FORMAT)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    sync(path.parent)


def read(path: Path) -> IndexFile | None:
    """Map a file; None if it is missing, cut short, damaged or of another format."""
    import faiss

    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            checked = _checked(file, before.st_size)
            if checked is None:
                return None
            mapped, text, checksum = checked
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
            after = path.stat()
    except (OSError, ValueError, RuntimeError):
        return None
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino):
        return None
    about = parse_json(text)
    columns = {
        column: np.frombuffer(mapped, kind, int(np.prod(shape)), offset).reshape(shape)
        for column, kind, shape, offset in about.pop("columns")
    }
    return IndexFile(index, columns, about, checksum)


def _checked(file: IO[bytes], size: int) -> tuple[mmap.mmap, bytes, int] | None:
    """The mapped file, its description and its checksum; None if they do not fit."""
    if size < _TAIL:
        return None
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tail = mapped[size - _TAIL :]
    length, body = int.from_bytes(tail[4:12], "little"), size - _TAIL
    if tail[12:] != _FORMAT or length > body:
        return None
    checksum = 0
    with memoryview(mapped) as view:
        for begin in range(0, body, _CHUNK):
            checksum = zlib.crc32(view[begin : min(begin + _CHUNK, body)], checksum)
    if checksum != int.from_bytes(tail[:4], "little"):
        return None
    return mapped, mapped[body - length : body], checksum
