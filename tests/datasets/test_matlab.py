import contextlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from personsearch.datasets import matlab
from personsearch.errors import AnnotationError


def rows(*values: tuple[object, ...]) -> np.ndarray:
    table = np.empty((1, len(values)), dtype=[("name", object), ("box", object)])
    for k, value in enumerate(values):
        table[0, k] = value
    return table


def broken(folder: Path) -> dict[str, str]:
    """Files that are no MATLAB 5, and what is said of each."""
    (folder / "empty.mat").write_bytes(b"")
    (folder / "text.mat").write_text("x, y, w, h\n" * 40)
    (folder / "v73.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n".ljust(64, b"\0")
    )
    savemat(folder / "other.mat", {"other": np.eye(3), "more": 1})
    savemat(folder / "cut.mat", {"wanted": rows(*[("a" * k, np.eye(k)) for k in range(1, 60)])})
    whole = (folder / "cut.mat").read_bytes()
    (folder / "cut.mat").write_bytes(whole[: len(whole) // 2])
    return {
        "absent.mat": "no such MATLAB file",
        "empty.mat": r"is empty \(0 bytes\)",
        "text.mat": "is not a MATLAB 5 file",
        "v73.mat": r"MATLAB 7\.3 \(HDF5\).*-v7",
        "other.mat": "no variable 'wanted'; it has 'other', 'more'",
        "cut.mat": "is damaged",
    }


@pytest.mark.parametrize(
    "name", ["absent.mat", "empty.mat", "text.mat", "v73.mat", "other.mat", "cut.mat"]
)
def test_each_broken_file_has_one_clear_error(tmp_path: Path, name: str) -> None:
    message = broken(tmp_path)[name]
    with pytest.raises(AnnotationError, match=message):
        matlab.load(tmp_path / name, "wanted")
    with pytest.raises(AnnotationError, match=message):
        list(matlab.stream(tmp_path / name, "wanted"))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_streamed_struct_is_the_loaded_one(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    values = [("s1.jpg", np.array([[1, 2, 300, 4]], np.uint16)), ("ü", np.zeros((1, 0)))]
    values += [("x" * 70_000, np.random.default_rng(0).random((300, 200)))]
    savemat(path, {"first": np.arange(9), "wanted": rows(*values)}, do_compression=compressed)
    got = [
        {name: matlab.parse(data, order) for name, data in row.items()}
        for row, order in matlab.stream(path, "wanted")
    ]
    assert [row["name"] for row in got] == [name for name, _ in values]
    for row, (_, box) in zip(got, values, strict=True):
        assert (row["box"].dtype, row["box"].shape) == (box.dtype, box.shape)
        np.testing.assert_array_equal(row["box"], box)


def test_nested_structs_and_cells(tmp_path: Path) -> None:
    cells = np.empty((1, 2), dtype=object)
    cells[0] = ["one", np.array([[5]], np.uint8)]
    savemat(tmp_path / "a.mat", {"wanted": rows((rows(("q", 1.5)), cells))})
    ((row, order),) = matlab.stream(tmp_path / "a.mat", "wanted")
    (inner,) = matlab.parse(row["name"], order)
    assert (inner["name"], inner["box"].tolist()) == ("q", [[1.5]])
    assert matlab.parse(row["box"], order)[0] == "one"
    ((name,),) = matlab.rows_of(row["name"], order, ["name"])
    assert matlab.parse(name, order) == "q"


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_loaded_equals_scipys(tmp_path: Path, compressed: bool) -> None:
    cells = np.empty((3, 1), dtype=object)
    cells[:, 0] = ["one", "", "drei ü"]
    values = {"cells": cells, "many": np.arange(12.0).reshape(3, 4), "one": "a text"}
    values |= {"whole": np.array([[1, 300]], np.uint16), "people": rows(("a", np.eye(2)))}
    path = tmp_path / "a.mat"
    savemat(path, values, do_compression=compressed)
    there = loadmat(path)
    for name in ("many", "whole"):
        loaded = matlab.numbers(matlab.load(path, name), path)
        assert loaded.dtype == there[name].dtype
        np.testing.assert_array_equal(loaded, there[name])
    assert matlab.load(path, "absent", "one") == there["one"][0]
    assert matlab.as_strings(matlab.load(path, "cells"), path) == ["one", "drei ü"]
    ((name, box),) = matlab.fields(matlab.load(path, "people"), ["name", "box"], path)
    assert (matlab.text(name), box.tolist()) == ("a", np.eye(2).tolist())


def matrix(kind: int, shape: tuple[int, ...], *elements: bytes, names: bytes = b"") -> bytes:
    """An element of a .mat file: a matrix of a class and shape, with elements as they are."""
    parts = [
        (6, struct.pack("<II", kind, 0)),
        (5, struct.pack(f"<{len(shape)}i", *shape)),
        (1, b"x"),
    ]
    if kind == 2:
        parts += [(5, struct.pack("<I", 8)), (1, names)]
    inner = b"".join(
        struct.pack("<II", tag, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")
        for tag, data in parts
    ) + b"".join(elements)
    return struct.pack("<II", 14, len(inner)) + inner


def nested(depth: int) -> bytes:
    return matrix(1, (1, 1), nested(depth - 1)) if depth else matrix(6, (0, 0), b"\0" * 8)


def packed(data: bytes) -> bytes:
    small = zlib.compress(data, 9)
    return struct.pack("<II", 15, len(small)) + small


HOSTILE = {
    "structs without fields": matrix(2, (2**31 - 1, 2**31 - 1)),
    "cells without end": matrix(1, (2**31 - 1, 2**31 - 1)),
    "structs without end": matrix(2, (2**31 - 1, 9), names=b"name\0\0\0\0"),
    "a negative shape": matrix(1, (-1, -1), nested(0)),
    "cells within cells": nested(200),
    "numbers of another size": matrix(6, (5, 5), struct.pack("<II8s", 9, 8, b"")),
    "numbers of no type": matrix(6, (1, 1), struct.pack("<II8s", 99, 8, b"")),
    "an object": matrix(17, (1, 1), bytes(64)),
    "a sparse matrix": matrix(5, (1, 1), bytes(64)),
    "a length beyond": struct.pack("<II", 14, 2**32 - 1) + bytes(64),
    "zeros without end": packed(
        struct.pack("<II", 14, 2**30) + matrix(6, (1, 2**27))[8:] + bytes(1000)
    ),
    "a bad archive": struct.pack("<II", 15, 64) + bytes(64),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_made_files_have_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + content)
    if content == HOSTILE["structs without fields"]:
        assert matlab.fields(matlab.load(path, "x"), [], path) == []
    else:
        with pytest.raises(AnnotationError, match=r"a\.mat: "):
            matlab.load(path, "x")
    with contextlib.suppress(AnnotationError):
        list(matlab.stream(path, "x"))


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    """In this process: a reader that crashes ends the tests."""
    path, rng = tmp_path / "a.mat", np.random.default_rng(0)
    for compressed in (False, True):
        value = rows(("a", np.eye(2)), ("b", np.zeros((1, 0))))
        savemat(path, {"x": value, "y": np.arange(3)}, do_compression=compressed)
        sound = path.read_bytes()
        for _ in range(400):
            damaged = bytearray(sound)
            for at in rng.integers(124, len(sound), 3):
                damaged[at] = rng.integers(256)
            path.write_bytes(damaged)
            with contextlib.suppress(AnnotationError):
                matlab.fields(matlab.load(path, "x"), ["name", "box"], path)
            with contextlib.suppress(AnnotationError):
                list(matlab.stream(path, "x"))


@pytest.mark.timeout(20)
def test_a_fifo_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mat")
    with pytest.raises(AnnotationError, match=r"a\.mat: is not a regular file"):
        matlab.load(tmp_path / "a.mat", "x")


def test_fields_of_something_else() -> None:
    with pytest.raises(AnnotationError, match="a struct lacks scene; it has name, box"):
        matlab.fields([{"name": "a", "box": 1}], ["name", "scene"], Path("x.mat"))
    with pytest.raises(AnnotationError, match="expected a struct with name"):
        matlab.fields(np.eye(2), ["name"], Path("x.mat"))
    with pytest.raises(AnnotationError, match="expected a cell array of strings"):
        matlab.as_strings(np.eye(2), Path("x.mat"))
    with pytest.raises(AnnotationError, match="expected a matrix of numbers"):
        matlab.numbers(["a"], Path("x.mat"))
