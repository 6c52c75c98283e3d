"""Reads MATLAB 5 files with clear errors, and streams long struct arrays."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import AnnotationError

_INT8, _UINT8, _UTF8, _UTF16 = 1, 2, 16, 17
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"
}  # fmt: skip
_HEADER = 128


def load(path: Path, *keys: str) -> NDArray[Any]:
    """Read the first of `keys` that a .mat file contains, as SciPy returns it.

    Raises:
        AnnotationError: the file is missing, empty, damaged, HDF5 (MATLAB 7.3), or has no such
            variable.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    _check(path)
    try:
        table = loadmat(path)
    except (MatReadError, ValueError, TypeError, OSError, zlib.error, LookupError) as error:
        raise _damaged(path, error) from None
    for key in keys:
        if key in table:
            value: NDArray[Any] = table[key]
            return value
    raise _lacks(path, keys, [key for key in table if not key.startswith("__")])


def text(value: Any) -> str:
    """Return the text of a 1 x n MATLAB string, which SciPy wraps in an array."""
    return str(value.flat[0]) if isinstance(value, np.ndarray) and value.size else str(value or "")


def as_strings(cells: NDArray[Any], path: Path) -> list[str]:
    """Return the strings of a cell array of any shape, or raise `AnnotationError`."""
    flat = [cell for cell in np.asarray(cells, dtype=object).ravel() if np.size(cell)]
    if not all(isinstance(cell, np.ndarray) and cell.dtype.kind == "U" for cell in flat):
        raise AnnotationError(f"{path}: expected a cell array of strings")
    return [text(cell) for cell in flat]


def fields(value: Any, names: Sequence[str], path: Path) -> list[tuple[Any, ...]]:
    """Return the named fields of each element of a struct array of any shape.

    Raises:
        AnnotationError: not a struct array, or one without such a field.
    """
    if not isinstance(value, np.ndarray) or (value.size and value.dtype.names is None):
        raise AnnotationError(f"{path}: expected a struct with {', '.join(names)}")
    if not value.size:
        return []
    missing = [name for name in names if name not in value.dtype.names]
    if missing:
        raise AnnotationError(
            f"{path}: a struct lacks {', '.join(missing)}; it has {', '.join(value.dtype.names)}"
        )
    columns = [value[name].ravel() for name in names]
    return list(zip(*columns, strict=True))


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


def parse(data: bytes, order: str) -> Any:
    """Decode a matrix without its tag into a string, an array, or a list of dicts for a struct."""
    if not data:
        return np.zeros((0, 0))
    cursor = Cursor(data, order)
    kind, shape, _ = cursor.header()
    count = int(np.prod(shape))
    if kind == _STRUCT:
        names = cursor.field_names()
        return [{n: parse(cursor.element()[1], order) for n in names} for _ in range(count)]
    if kind == _CELL:
        return [parse(cursor.element()[1], order) for _ in range(count)]
    stored, values = cursor.element()
    if kind == _CHAR:
        wide = {4: "utf-16", _UTF16: "utf-16"}.get(stored, "utf-8")
        suffix = "-le" if order == "<" else "-be"
        return values.decode(wide + suffix if wide == "utf-16" else wide, "replace")
    if stored not in _NUMBERS:
        raise ValueError(f"numbers of the unknown type {stored}")
    return np.frombuffer(values, order + _NUMBERS[stored]).reshape(shape, order="F")


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
    for _ in range(int(np.prod(shape))):
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
    _check(path)
    found: list[str] = []
    try:
        with path.open("rb") as file:
            order = _byte_order(file.read(_HEADER))
            while tag := file.read(8):
                kind, size = struct.unpack(order + "II", tag)
                end = file.tell() + size
                source = _Source(file, size, order, packed=kind == _COMPRESSED)
                start = source.matrix() if kind == _COMPRESSED else size
                head = Cursor(source.take(min(start, 4096), partial=True), order)
                _, shape, name = head.header()
                found.append(name)
                if name == key:
                    names = head.field_names()
                    source.push_back(head.data[head.at :])
                    for _ in range(int(np.prod(shape))):
                        yield {n: source.take(source.matrix()) for n in names}, order
                    return
                file.seek(end)
    except (struct.error, ValueError, zlib.error, EOFError) as error:
        raise _damaged(path, error) from None
    raise _lacks(path, [key], [name for name in found if name])


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


def _check(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
            file.seek(512)
            later = file.read(8)
    except FileNotFoundError:
        raise AnnotationError(f"{path}: no such file") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error})") from None
    if not head:
        raise AnnotationError(f"{path}: is empty (0 bytes), expected a MATLAB file; copy it again")
    signature = b"\x89HDF\r\n\x1a\n"
    if head.startswith((b"MATLAB 7.3", signature)) or later == signature:
        raise AnnotationError(
            f"{path}: is a MATLAB 7.3 (HDF5) file, expected MATLAB 5; save it again with "
            "save(..., '-v7')"
        )


def _damaged(path: Path, error: Exception) -> AnnotationError:
    what = f"is not a MATLAB 5 file, or is damaged ({error}); copy it again"
    return AnnotationError(f"{path}: {what}")


def _lacks(path: Path, keys: Sequence[str], found: Sequence[str]) -> AnnotationError:
    return AnnotationError(
        f"{path}: has no variable {' or '.join(map(repr, keys))}; it has "
        f"{', '.join(map(repr, found)) or 'none'}. Is it a file of this data set?"
    )
