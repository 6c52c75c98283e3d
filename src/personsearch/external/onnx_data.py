"""What an ONNX file says of itself: its properties, and the files with weights outside of it.

The format is protobuf (onnx/onnx.proto): numbered fields, of which some are messages again. Only
the fields that lead to a tensor's ``external_data`` are followed.
"""

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from personsearch.errors import ModelError

T = TypeVar("T")

# By message: the number of each field that is followed, and the message that it holds.
_FOLLOWED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        **{5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
        **{22: "sparse tensor", 23: "sparse tensor"},
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}
_PROPERTIES = 14  # the field of a model's metadata, entries of a key and a value
_BYTES = 2  # the wire type of texts and messages
_FIXED = {1: 8, 5: 4}  # bytes of the wire types of fixed length
_GROUPS = (3, 4)  # begin and end of an obsolete kind of message, whose fields are read in place
_LONGEST = 4096  # bytes of a path


def external_files(path: Path) -> list[Path]:
    """Return the files beside an ONNX network that it names as its data, sorted; none if damaged.

    Raises:
        ModelError: it cannot be read.
    """
    locations = set(_read(path, _locations))
    return sorted(filter(_is_file, {path.parent / location for location in locations}))


def properties(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX network, written behind the network itself; none if damaged.

    Raises:
        ModelError: it cannot be read.
    """
    return dict(_read(path, _properties))


def _read(path: Path, reader: Callable[[mmap.mmap], Iterator[T]]) -> list[T]:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return list(reader(data))
    except ValueError:  # an empty file cannot be mapped
        return []
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # such as a name that is too long, or holds a zero byte
        return False


def _locations(data: mmap.mmap) -> Iterator[str]:
    waiting = [("model", 0, len(data))]
    while waiting:
        message, begin, end = waiting.pop()
        entry: dict[str, bytes] = {}
        for number, start, stop in _fields(data, begin, end):
            part = _FOLLOWED[message].get(number)
            if message == "entry" and part is not None:
                entry[part] = data[start : min(stop, start + _LONGEST)]
            elif part is not None:
                waiting.append((part, start, stop))
        if entry.get("key") == b"location":
            yield entry.get("value", b"").decode("utf-8", "surrogateescape")


def _properties(data: mmap.mmap) -> Iterator[tuple[str, str]]:
    for number, start, stop in _fields(data, 0, len(data)):
        if number == _PROPERTIES:
            entry = {field: data[a:b] for field, a, b in _fields(data, start, stop)}
            key, value = (entry.get(field, b"").decode("utf-8", "replace") for field in (1, 2))
            yield key, value


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, begin and end of each text and message; stop at what is no protobuf."""
    while at < end:
        tag, at = _number(data, at, end)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _number(data, at, end)
            if at + length > end:
                return
            yield tag >> 3, at, at + length
            at += length
        elif kind == 0:
            _, at = _number(data, at, end)
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind not in _GROUPS:
            return


def _number(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; return it and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, at
