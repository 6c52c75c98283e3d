"""Reads MATLAB 5 files with clear errors, and streams long struct arrays."""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import AnnotationError, PictureError
from personsearch.media.opening import open_regular

_INT8, _UINT8, _UTF8, _UTF16 = 1, 2, 16, 17
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"
}  # fmt: skip
_NUMERIC = range(6, 16)  # classes: double, single, and integers of 8 to 64 bits
_HEADER = 128
_HEAD = 4096  # bytes in which the header of a matrix and the names of its fields lie
_MOST = 1 << 28
"""Bytes of the largest matrix, or element of a streamed one: some compressed files never end."""
_DEEPEST = 32  # structs and cells within each other
_EMPTY = np.zeros((0, 0))
_EMPTY.flags.writeable = False


def load(path: Path, *keys: str) -> Any:
    """Read the first of `keys` that a .mat file contains, as `parse` returns it.

    SciPy's reader is not used: made files crash the process that it runs in.

    Raises:
        AnnotationError: the file is missing, empty, damaged, HDF5 (MATLAB 7.3), or has no such
            variable.
    """
    found: dict[str, Any] = {}
    names: list[str] = []
    for name, source, order, left in _variables(path):
        names.append(name)
        if name in keys and name not in found:
            with _reading(path):
                found[name] = parse(source.take(left), order)
    for key in keys:
        if key in found:
            return found[key]
    raise _lacks(path, keys, names)


def text(value: Any) -> str:
    """Return a string, and an empty one for what is none."""
    return value if isinstance(value, str) else ""


def numbers(value: Any, path: Path) -> NDArray[Any]:
    """Return a matrix of numbers, or raise `AnnotationError`."""
    if not isinstance(value, np.ndarray):
        raise AnnotationError(f"{path}: expected a matrix of numbers")
    return value


def as_strings(cells: Any, path: Path) -> list[str]:
    """Return the strings of a cell array but the empty ones, or raise `AnnotationError`."""
    filled = [cell for cell in cells if isinstance(cell, str | dict) or np.size(cell)]
    if not isinstance(cells, list) or not all(isinstance(cell, str) for cell in filled):
        raise AnnotationError(f"{path}: expected a cell array of strings")
    return [cell for cell in filled if cell]


def fields(value: Any, names: Sequence[str], path: Path) -> list[tuple[Any, ...]]:
    """Return the named fields of each element of a struct array.

    Raises:
        AnnotationError: not a struct array, or one without such a field.
    """
    if isinstance(value, np.ndarray) and not value.size:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise AnnotationError(f"{path}: expected a struct with {', '.join(names)}")
    missing = [name for name in names if value and name not in value[0]]
    if missing:
        raise AnnotationError(
            f"{path}: a struct lacks {', '.join(missing)}; it has {', '.join(value[0])}"
        )
    return [tuple(one[name] for name in names) for one in value]


class Cursor:
    """Parses one MATLAB matrix in memory, little-endian (order ``"<"``) or big-endian (``">"``)."""

    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.order, self.at = data, order, 0
        self._pair = struct.Struct(order + "II")

    def element(self) -> tuple[int, bytes]:
        """Return type and bytes of the next data element."""
        kind, size = self._pair.unpack_from(self.data, self.at)
        if kind >> 16:  # a small element has its bytes in place of the size
            kind, size, start = kind & 0xFFFF, kind >> 16, self.at + 4
            self.at += 8
        else:
            start = self.at + 8
            self.at = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(self.data):
            raise ValueError("an element ends after its file")
        return kind, self.data[start : start + size]

    def header(self) -> tuple[int, tuple[int, ...], str]:
        """Return class, shape and name at the start of a matrix."""
        flags, shape, name = (self.element()[1] for _ in range(3))
        dims = struct.unpack(f"{self.order}{len(shape) // 4}i", shape)
        return struct.unpack(self.order + "I", flags[:4])[0] & 0xFF, dims, name.decode("latin-1")

    def field_names(self) -> list[str]:
        """Return the field names of a struct, after its header."""
        width, names = (self.element()[1] for _ in range(2))
        size = int.from_bytes(width, "little" if self.order == "<" else "big")
        parts = [names[k : k + size] for k in range(0, len(names), size or 1)]
        return [part.split(b"\0")[0].decode("latin-1") for part in parts]


def parse(data: bytes, order: str, depth: int = 0) -> Any:
    """Decode a matrix without its tag: a string, an array, a list of cells or of structs (dicts).

    Raises:
        ValueError: it is none of these, or is damaged.
    """
    if not data:
        return _EMPTY
    if depth > _DEEPEST:
        raise ValueError(f"cells within cells, more than {_DEEPEST} deep")
    cursor = Cursor(data, order)
    kind, shape, _ = cursor.header()
    if kind == _STRUCT:
        names = cursor.field_names()
        return [
            {name: parse(cursor.element()[1], order, depth + 1) for name in names}
            for _ in range(_count(shape, len(names), cursor))
        ]
    if kind == _CELL:
        count = _count(shape, 1, cursor)
        return [parse(cursor.element()[1], order, depth + 1) for _ in range(count)]
    if kind != _CHAR and kind not in _NUMERIC:
        raise ValueError(f"a matrix of the unknown class {kind}")
    stored, values = cursor.element()
    if kind == _CHAR:
        wide = {4: "utf-16", _UTF16: "utf-16"}.get(stored, "utf-8")
        suffix = "-le" if order == "<" else "-be"
        return values.decode(wide + suffix if wide == "utf-16" else wide, "replace")
    if stored not in _NUMBERS:
        raise ValueError(f"numbers of the unknown type {stored}")
    return np.frombuffer(values, order + _NUMBERS[stored]).reshape(shape, order="F")


def _count(shape: tuple[int, ...], columns: int, cursor: Cursor) -> int:
    """Return the number of elements that follow, each with so many columns of 8 bytes or more."""
    count = math.prod(shape)
    if count * columns > (len(cursor.data) - cursor.at) // 8 or min(shape, default=0) < 0:
        raise ValueError(f"{count:,} elements, of which it holds fewer")
    return count if columns else 0


def rows_of(data: bytes, order: str, names: Sequence[str]) -> Iterator[tuple[bytes, ...]]:
    """Yield the named fields, still encoded, of each element of an encoded struct array.

    Raises:
        ValueError: not a struct array, or one without such a field.
    """
    cursor = Cursor(data, order)
    kind, shape, _ = cursor.header()
    if kind != _STRUCT:
        raise ValueError(f"a matrix of class {kind} in place of a struct")
    columns = cursor.field_names()
    wanted = [columns.index(name) for name in names]
    pair, at = struct.Struct(order + "II").unpack_from, cursor.at
    row = [b""] * len(columns)
    for _ in range(_count(shape, len(columns), cursor)):
        for column in range(len(columns)):
            _, size = pair(data, at)
            row[column] = data[at + 8 : at + 8 + size]
            at += 8 + size
        yield tuple([row[column] for column in wanted])


def stream(path: Path, key: str) -> Iterator[tuple[dict[str, bytes], str]]:
    """Yield the fields of each element of a struct array, encoded (see `parse`), and byte order.

    The array is decompressed on the fly, so that a protocol of ten million gallery rows fits in
    memory.

    Raises:
        AnnotationError: see `load`.
    """
    found: list[str] = []
    for name, source, order, left in _variables(path):
        found.append(name)
        if name == key:
            with _reading(path):
                head = Cursor(source.take(min(left, _HEAD), partial=True), order)
                _, shape, _ = head.header()
                names = head.field_names()
                source.push_back(head.data[head.at :])
                for _ in range(math.prod(shape) if names else 0):
                    yield {n: source.take(source.matrix()) for n in names}, order
            return
    raise _lacks(path, [key], [name for name in found if name])


def _variables(path: Path) -> Iterator[tuple[str, "_Source", str, int]]:
    """Yield name, bytes, byte order and number of bytes of each matrix of a file."""
    with _opened(path) as file, _reading(path):
        order = _byte_order(file.read(_HEADER))
        while tag := file.read(8):
            kind, size = struct.unpack(order + "II", tag)
            end = file.tell() + size
            source = _Source(file, size, order, packed=kind == _COMPRESSED)
            left = source.matrix() if kind == _COMPRESSED else size
            head = Cursor(source.take(min(left, _HEAD), partial=True), order)
            name = head.header()[2]
            source.push_back(head.data)
            yield name, source, order, left
            file.seek(end)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of damaged data into `AnnotationError`."""
    try:
        yield
    except AnnotationError:
        raise
    except (struct.error, ValueError, zlib.error, EOFError, IndexError) as error:
        what = f"is not a MATLAB 5 file, or is damaged ({error}); copy it again"
        raise AnnotationError(f"{path}: {what}") from None


class _Source:
    """Bytes of one top-level element, decompressed on demand."""

    def __init__(self, file: Any, size: int, order: str, *, packed: bool) -> None:
        self._file, self._left, self._order = file, size, order
        self._inflate = zlib.decompressobj() if packed else None
        self._ready = b""

    def push_back(self, data: bytes) -> None:
        self._ready = data + self._ready

    def take(self, size: int, *, partial: bool = False) -> bytes:
        """Return the next `size` bytes; fewer at the end only if `partial`."""
        if size > _MOST:
            raise ValueError(f"{size:,} bytes in one matrix, the limit is {_MOST:,}")
        parts, have = [self._ready], len(self._ready)
        while have < size:
            # Bytes not yet decompressed come before bytes not yet read.
            raw = self._inflate.unconsumed_tail if self._inflate else b""
            if not raw:
                raw = self._file.read(min(self._left, 1 << 16))
                self._left -= len(raw)
            if not raw:
                if partial:
                    break
                raise EOFError("it ends too early")
            part = self._inflate.decompress(raw, 1 << 22) if self._inflate else raw
            parts.append(part)
            have += len(part)
        data = b"".join(parts)
        self._ready = data[size:]
        return data[:size]

    def matrix(self) -> int:
        """Read a matrix tag and return how many bytes follow."""
        kind, size = struct.unpack(self._order + "II", self.take(8))
        if kind != _MATRIX:
            raise ValueError(f"element of type {kind} in place of a matrix")
        return int(size)


def _byte_order(header: bytes) -> str:
    mark = header[126:128]
    if mark not in (b"IM", b"MI"):
        raise ValueError("no MATLAB 5 header")
    return "<" if mark == b"IM" else ">"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that looks like MATLAB 5."""
    try:
        opened = open_regular(path, "MATLAB file")
    except PictureError as error:
        raise AnnotationError(str(error)) from None
    with opened as file:
        head = file.read(_HEADER)
        file.seek(512)
        later = file.read(8)
        file.seek(0)
        if not head:
            raise AnnotationError(
                f"{path}: is empty (0 bytes), expected a MATLAB file; copy it again"
            )
        signature = b"\x89HDF\r\n\x1a\n"
        if head.startswith((b"MATLAB 7.3", signature)) or later == signature:
            raise AnnotationError(
                f"{path}: is a MATLAB 7.3 (HDF5) file, expected MATLAB 5; save it again with "
                "save(..., '-v7')"
            )
        yield file


def _lacks(path: Path, keys: Sequence[str], found: Sequence[str]) -> AnnotationError:
    return AnnotationError(
        f"{path}: has no variable {' or '.join(map(repr, keys))}; it has "
        f"{', '.join(map(repr, found)) or 'none'}. Is it a file of this data set?"
    )
