from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

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
        "absent.mat": "no such file",
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


def test_fields_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="a struct lacks scene; it has name, box"):
        matlab.fields(rows(("a", 1)), ["name", "scene"], Path("x.mat"))
    with pytest.raises(AnnotationError, match="expected a struct with name"):
        matlab.fields(np.eye(2), ["name"], Path("x.mat"))
    with pytest.raises(AnnotationError, match="expected a cell array of strings"):
        matlab.as_strings(np.eye(2), Path("x.mat"))
