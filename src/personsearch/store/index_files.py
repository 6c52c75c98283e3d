"""The files of the index: parts of the store's embeddings, as they are searched.

    STORE/index/lock                  held while files are written or deleted
    STORE/index/AFTER_LAST.rows       everyone with AFTER < id <= LAST, made to be scanned
    STORE/index/AFTER_LAST.lists      the same by the nearest of some means of embeddings

They can be made again from the store at any time. A file is faiss's own, followed by more columns,
a description, and a checksum over all of it; it is written under another name, then renamed.
Whoever deletes people deletes the files that hold them first, and both only with the lock: so no
file can be made from what is about to be erased.
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

FOLDER, LOCK = "index", "lock"
ROWS, LISTS = ".rows", ".lists"

_TEMPORARY = "unfinished"
_FORMAT = b"psindex1"
_TAIL = 20  # checksum, length of the description, format
_CHUNK = 1 << 24
_PATIENCE = 60.0  # seconds


@dataclass(frozen=True, eq=False)
class IndexFile:
    """A file as it was read, mapped to memory.

    Attributes:
        index: faiss's.
        columns: what else is in it.
        about: its description.
        checksum: of all of it.
    """

    index: Any
    columns: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any]
    checksum: int


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold the right to change the index files of a store; False if it cannot be had.

    Args:
        folder: of the store.
        patience: seconds to wait for another process or thread that holds it.
    """
    lock = FileLock(folder / FOLDER / LOCK)
    with suppress(OSError):  # of which a timeout is one
        (folder / FOLDER).mkdir(exist_ok=True)
        lock.acquire(timeout=patience, poll_interval=0.02)
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextmanager
def without_blocks(
    folder: Path, blocks: NDArray[np.int64], *, centroids_too: bool
) -> Iterator[None]:
    """Deletes files that hold someone of some blocks of ids, and keeps them from coming back.

    Args:
        folder: of the store.
        blocks: ids // 1024 of those who are deleted or replaced.
        centroids_too: delete the means of embeddings, too, wherever they are.

    Raises:
        StoreError: a file cannot be deleted.
    """
    if not len(blocks) or not (folder / FOLDER).is_dir():
        yield
        return
    with locked(folder, _PATIENCE) as mine:
        if not mine:
            raise StoreError(
                f"{folder}: the files in {FOLDER}/ cannot be changed, or another process is "
                "writing them; end it, and run the same command again"
            )
        for path in (folder / FOLDER).iterdir():
            held = span(path)
            if held is None:
                stale = path.name == _TEMPORARY
            else:
                inside = (blocks >= (held[0] + 1) >> 10) & (blocks <= held[1] >> 10)
                stale = bool(inside.any()) or (centroids_too and path.suffix == LISTS)
            if stale:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise StoreError(
                        f"{path}: holds copies of who is to be erased, and cannot be deleted "
                        f"({error.strerror})"
                    ) from None
        yield


def span(path: Path) -> tuple[int, int] | None:
    """Whom a file holds: those with first < id <= second; None if it is no such file."""
    after, dash, last = path.stem.rpartition("_")
    if path.suffix not in (ROWS, LISTS) or not dash:
        return None
    try:
        return int(after), int(last)
    except ValueError:
        return None


def place(folder: Path, held: tuple[int, int], suffix: str) -> Path:
    """Of the file of a store that holds everyone with first < id <= second."""
    return folder / FOLDER / f"{held[0]}_{held[1]}{suffix}"


def spans(folder: Path) -> list[tuple[int, int]]:
    """What the files of rows hold, ascending."""
    try:
        found = [span(path) for path in (folder / FOLDER).iterdir() if path.suffix == ROWS]
    except OSError:
        return []
    return sorted(one for one in found if one is not None)


def write(path: Path, index: Any, columns: Mapping[str, NDArray[Any]], about: Any) -> None:
    """Writes a file whole or not at all; with the lock only.

    Raises:
        OSError: no room, or no right to.
    """
    import faiss

    unfinished = path.with_name(_TEMPORARY)
    try:
        try:
            faiss.write_index(index, str(unfinished))
        except RuntimeError as error:
            raise OSError(str(error)) from None
        with unfinished.open("r+b") as file:
            described = []
            for column, values in columns.items():
                file.seek(0, os.SEEK_END)
                file.write(b"\0" * (-file.tell() % 64))
                described.append((column, values.dtype.str, values.shape, file.tell()))
                file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            text = json.dumps({"columns": described, **about}).encode()
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
    """Maps a file; None if it is not there, cut short, damaged or of another format."""
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
    about = json.loads(text)
    columns = {
        column: np.frombuffer(mapped, kind, int(np.prod(shape)), offset).reshape(shape)
        for column, kind, shape, offset in about.pop("columns")
    }
    return IndexFile(index, columns, about, checksum)


def _checked(file: IO[bytes], size: int) -> tuple[mmap.mmap, bytes, int] | None:
    """The file, its description and its checksum, if that is what it says."""
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
