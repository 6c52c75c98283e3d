from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from personsearch.datasets import prw, prw_writer
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.protocols import all_protocol
from personsearch.errors import DataError
from personsearch.types import UNLABELLED, Scene


def scene(root: Path, name: str, camera: int | None, ids: list[int]) -> Scene:
    root.mkdir(exist_ok=True)
    Image.new("RGB", (640, 480), (len(ids), 0, 9)).save(root / name)
    boxes = [[3.1 + 200 * k, 7, 93.7 + 200 * k, 300] for k in range(len(ids))]
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Scene(name, root / name, (640, 480), boxes, np.array(ids, dtype=int), camera)


def make(root: Path, source_ids: list[int] | None = None) -> Dataset:
    train = [scene(root, "a.jpg", 0, [1, UNLABELLED]), scene(root, "b.jpg", 1, [0])]
    test = [scene(root, "t0.jpg", 0, [5]), scene(root, "t1.png", 1, [5, 6])]
    test += [scene(root, "t2.jpg", 0, []), scene(root, "t3.jpg", 1, [6])]
    splits = {"train": train, "test": test}
    return Dataset("mine", root, splits, {"all": all_protocol(test)}, source_ids=source_ids)


@pytest.mark.parametrize("key", ["box_new", "anno_file", "anno_previous"])
def test_what_is_written_reads_back(tmp_path: Path, key: str) -> None:
    dataset = make(tmp_path / "in", source_ids=[3, 4])
    assert prw_writer.write(dataset, tmp_path / "out", key=key) == []
    again = prw.read(tmp_path / "out")
    assert again.dropped == []
    for split in ("train", "test"):
        for old, new in zip(dataset.split(split), again.split(split), strict=True):
            assert (old.size, old.ids.tolist()) == (new.size, new.ids.tolist())
            assert old.boxes.tobytes() == new.boxes.tobytes()
            # PRW counts cameras from one.
            assert (old.camera or 0) + 1 == new.camera
    assert again.source_ids == [3, 4]
    old, new = dataset.protocol("all"), again.protocol("regular")
    assert [q.box.tobytes() for q in old.queries] == [q.box.tobytes() for q in new.queries]
    assert [q.id for q in new.queries] == [5, 5, 6]
    assert [len(t) for t in new.targets] == [1, 1, 1]


def test_shapes_are_those_of_the_real_files(tmp_path: Path) -> None:
    prw_writer.write(make(tmp_path / "in"), tmp_path / "out")
    root = tmp_path / "out"
    boxes = loadmat(root / "annotations" / "c1s1_000001.jpg.mat")["box_new"]
    assert (boxes.dtype, boxes.shape, boxes[:, 0].tolist()) == (np.float64, (2, 5), [2, -2])
    frames = loadmat(root / "frame_train.mat")["img_index_train"]
    assert (frames.shape, frames[1, 0].tolist()) == ((2, 1), ["c2s1_000002"])
    assert loadmat(root / "frame_test.mat")["img_index_test"].shape == (4, 1)
    # Without common numbers, test ids go on after the train ids 1 and 2.
    assert loadmat(root / "ID_train.mat")["ID_train"].tolist() == [[1, 2]]
    assert loadmat(root / "ID_test.mat")["ID_test2"].tolist() == [[8, 9]]
    lines = (root / "query_info.txt").read_bytes().split(b"\r\n")
    assert lines[0] == b"8 3.1000 7.0000 90.6000 293.0000 c1s1_000003"
    assert lines[-1] == b""
    with Image.open(root / "query_box" / "8_c1s1_000003.jpg") as crop:
        assert crop.size == (91, 293)


def test_an_unknown_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="key is 'boxes', expected one of box_new"):
        prw_writer.write(make(tmp_path / "in"), tmp_path / "out", key="boxes")


def test_a_missing_picture_is_reported(tmp_path: Path) -> None:
    dataset = make(tmp_path / "in")
    (tmp_path / "in" / "t2.jpg").unlink()
    dropped = prw_writer.write(dataset, tmp_path / "out")
    assert [(d.where, d.reason) for d in dropped] == [("t2.jpg", "picture that cannot be read")]
