from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from personsearch.datasets import prw
from personsearch.errors import AnnotationError, DataError
from personsearch.types import UNLABELLED, SearchProtocol

# Frames by name: rows id, x, y, w, h, and the key that they stand under.
FRAMES: dict[str, tuple[str, list[list[float]]]] = {
    "c1s1_000001": ("box_new", [[932, 10, 20, 30, 60], [-2, 50, 20, 30, 60]]),
    "c6s1_000002": ("anno_file", [[1, 10.25, 20, 30, 60]]),
    "c3s2_044587": ("anno_previous", [[605, -1.703, 295.5756, 74.6436, 338.2289]]),
    "c1s2_024091": ("box_new", [[297, 100, 100, 40, 90], [297, 300, 100, 40, 90]]),
    "c3s1_000003": (
        "box_new",
        [[297, 1900.5, 1000.5, 40, 90], [605, 5, 5, 0, 9], [-2, 1, 1, 9, 9]],
    ),
    "c2s1_000004": ("box_new", [[605, 7.0001, 8, 20, 40], [1, 70, 8, 20, 40]]),
    "c1s3_000005": ("box_new", []),
}  # fmt: skip
TRAIN = ("c1s1_000001", "c6s1_000002")
QUERIES = (
    "605 -1.7030 295.5756 74.6436 338.2289 c3s2_044587",
    "297 300.0000 100.0000 40.0000 90.0000 c1s2_024091",
    "605 7.0000 8.0000 20.0000 40.0000 c2s1_000004",
)


def cells(*values: str) -> np.ndarray:
    table = np.empty((len(values), 1), dtype=object)
    table[:, 0] = values
    return table


def make(root: Path, **frames: Any) -> Path:
    (root / "annotations").mkdir(parents=True)
    content = FRAMES | frames
    for name, (key, rows) in content.items():
        table = np.array(rows, dtype=np.float64).reshape(-1, 5)
        # Every file has the last key too: the first one that is present counts.
        others = {"anno_previous": np.ones((1, 5))} if key != "anno_previous" else {}
        savemat(root / "annotations" / f"{name}.jpg.mat", others | {key: table})
    test = [name for name in content if name not in TRAIN]
    savemat(root / "frame_train.mat", {"img_index_train": cells(*TRAIN)})
    savemat(root / "frame_test.mat", {"img_index_test": cells(*test)})
    savemat(root / "ID_train.mat", {"ID_train": np.array([[1.0, 932.0]])})
    savemat(root / "ID_test.mat", {"ID_test2": np.array([[297.0, 605.0]])})
    (root / "query_info.txt").write_bytes(("\r\n".join(QUERIES) + "\r\n").encode())
    return root


def shown(protocol: SearchProtocol) -> list[tuple[str, int, list[str]]]:
    return [
        (q.scene[:11], q.id, sorted(n[:11] for n in t))
        for q, t in zip(protocol.queries, protocol.targets, strict=True)
    ]


def test_boxes_ids_and_cameras(tmp_path: Path) -> None:
    dataset = prw.read(make(tmp_path))
    first, second = dataset.split("train")
    assert (first.name, first.camera, first.size) == ("c1s1_000001.jpg", 1, (1920, 1080))
    assert (second.camera, second.size) == (6, (720, 576))
    # Files' numbers 1 and 932 are the train ids 0 and 1.
    assert (first.ids.tolist(), second.ids.tolist()) == ([1, UNLABELLED], [0])
    assert dataset.source_ids == [1, 932]
    assert second.boxes.tolist() == [[10.25, 20, 40.25, 80]]
    test = {scene.name[:11]: scene for scene in dataset.split("test")}
    # A negative x is cut off after the width is added; so is what reaches over the right border.
    np.testing.assert_allclose(
        test["c3s2_044587"].boxes, [[0, 295.5756, 72.9406, 633.8045]], rtol=1e-6
    )
    assert test["c3s1_000003"].boxes[0].tolist() == [1900.5, 1000.5, 1920, 1080]
    assert test["c3s1_000003"].ids.tolist() == [297, UNLABELLED]
    assert test["c1s2_024091"].ids.tolist() == [297, 297]
    assert len(test["c1s3_000005"].boxes) == 0
    assert [(d.where, d.reason) for d in dataset.dropped[1:]] == [
        ("c3s1_000003, row 1", "box of zero or negative size")
    ]


def test_four_protocols(tmp_path: Path) -> None:
    dataset = prw.read(make(tmp_path))
    assert list(dataset.protocols) == ["regular", "regular-labelled", "multi-view", "original"]
    regular = dataset.protocol("regular")
    assert shown(regular) == [
        ("c3s2_044587", 605, ["c2s1_000004"]),
        ("c1s2_024091", 297, ["c3s1_000003"]),
        ("c2s1_000004", 605, ["c3s2_044587"]),
    ]
    assert [query.camera for query in regular.queries] == [3, 1, 2]
    assert [name[:11] for name in regular.galleries[1]] == [
        "c3s2_044587",
        "c3s1_000003",
        "c2s1_000004",
        "c1s3_000005",
    ]
    # Of two boxes of the id, the query's is the one that its line gives.
    assert regular.queries[1].box.tolist() == [300, 100, 340, 190]
    # A line that was rounded gives the box of the annotation.
    assert regular.queries[2].box.tobytes() == dataset.split("test")[3].boxes[0].tobytes()
    other = dataset.protocol("multi-view")
    assert [name[:4] for name in other.galleries[1]] == ["c3s2", "c3s1", "c2s1"]
    assert shown(other) == shown(regular)
    original = dataset.protocol("original")
    assert original.annotated is not None
    assert set(original.annotated) == {scene.name for scene in dataset.split("test")}
    assert dataset.protocol("regular").annotated is None
    assert (original.average_precision, other.average_precision) == ("trapezoid", "step")
    assert list(original.galleries[1]) == list(other.galleries[1])
    assert {n[:11]: b.tolist() for n, b in original.ignored[0].items()} == {
        "c3s1_000003": [[1, 1, 10, 10]]
    }
    labelled = dataset.protocol("regular-labelled")
    assert (labelled.known_only, labelled.average_precision) == (True, "step")
    assert shown(labelled) == shown(regular)
    assert [list(g) for g in labelled.galleries] == [list(g) for g in regular.galleries]
    assert labelled.ignored[0].keys() == original.ignored[0].keys()
    assert labelled.annotated is not None
    assert not any(one.known_only for one in (regular, other, original))


def test_clipping_as_in_published_code(tmp_path: Path) -> None:
    dataset = prw.read(make(tmp_path), clipping="seqnet")
    test = {scene.name[:11]: scene for scene in dataset.split("test")}
    # Scenes: x becomes 0, the width stays, all is cut to whole pixels; no right border.
    assert test["c3s2_044587"].boxes.tolist() == [[0, 295, 74, 633]]
    assert test["c3s1_000003"].boxes[0].tolist() == [1900, 1000, 1940, 1090]
    # Queries: the width is added first.
    queries = dataset.protocol("regular").queries
    assert queries[0].box.tolist() == [0, 295, 72, 633]
    assert queries[2].box.tolist() == [7, 8, 27, 48]
    with pytest.raises(DataError, match="clipping is 'twice', expected 'once' or 'seqnet'"):
        prw.read(tmp_path, clipping="twice")  # type: ignore[arg-type]


def test_bad_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [[3, np.nan, 1, 5, 5], [3, 2000, 1, 5, 5], [3.5, 1, 1, 5, 5], [3, 1, 1, -5, 5]]
    make(tmp_path, c4s1_000009=("box_new", [*rows, [3, 1, 1, 5, 5]]))
    (tmp_path / "annotations" / "c1s3_000005.jpg.mat").unlink()
    with (tmp_path / "query_info.txt").open("ab") as file:
        file.write(b"5 1 1 2 2 c1s2_024091\r\n5 1 1 2 2 c9s9_000000\r\n")
    dataset = prw.read(tmp_path)
    assert sorted(entry.reason for entry in dataset.dropped) == [
        "box of zero or negative size",
        "box of zero or negative size",
        "box outside its picture",
        "frame without an annotation file",
        "id is not a whole number",
        "no folder of pictures: sizes are the usual",
        "query in no test frame",
        "query without an annotation of its id",
        "row with an impossible number",
    ]


def test_sizes_come_from_the_pictures(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "frames").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "frames" / "c1s1_000001.jpg")
    (tmp_path / "frames" / "c6s1_000002.jpg").write_bytes(b"")
    dataset = prw.read(tmp_path)
    assert [scene.size for scene in dataset.split("train")] == [(64, 48), (720, 576)]
    assert dataset.split("train")[0].boxes.tolist() == [[10, 20, 40, 48], [50, 20, 64, 48]]
    reason = "picture unreadable: its size is that of its camera"
    assert sum(entry.reason == reason for entry in dataset.dropped) == 6


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        ("frame_train.mat", {"img_index_test": 1}, "no variable 'img_index_train'"),
        ("annotations/c1s1_000001.jpg.mat", {"boxes": 1}, "'box_new' or 'anno_file' or"),
        ("annotations/c1s1_000001.jpg.mat", {"box_new": np.ones((3, 4))}, r"\(3, 4\).*N x 5"),
        ("frame_test.mat", {"img_index_test": np.eye(2)}, "cell array of strings"),
    ],
)
def test_files_of_another_data_set(
    tmp_path: Path, place: str, content: dict[str, Any], message: str
) -> None:
    make(tmp_path)
    savemat(tmp_path / place, content)
    with pytest.raises(AnnotationError, match=message):
        prw.read(tmp_path)


@pytest.mark.parametrize("line", ["605 1 2 3 c1s1_000001", "x 1 2 3 4 c1s1_000001", "1 a b c d e"])
def test_a_bad_query_line_is_named(tmp_path: Path, line: str) -> None:
    make(tmp_path)
    (tmp_path / "query_info.txt").write_text(f"{QUERIES[0]}\n{line}\n")
    with pytest.raises(AnnotationError, match="line 2"):
        prw.read(tmp_path)


def test_without_queries_there_are_no_protocols(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "query_info.txt").unlink()
    dataset = prw.read(tmp_path)
    assert list(dataset.protocols) == []
    assert dataset.dropped[-1].reason == "missing: there are no protocols"


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e300])
def test_numbers_that_are_no_ids(tmp_path: Path, number: float) -> None:
    savemat(make(tmp_path) / "ID_train.mat", {"ID_train": np.array([[1.0, number]])})
    with pytest.raises(AnnotationError, match="ID_train has a number that is no id"):
        prw.read(tmp_path)
