from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from personsearch.datasets import cuhk_sysu, cuhk_sysu_writer
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.protocols import all_protocol, make_protocol
from personsearch.errors import DataError
from personsearch.types import UNLABELLED, Query, Scene


def scene(root: Path, name: str, ids: list[int], first: float = 3) -> Scene:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (640, 480), (int(first), 0, len(name))).save(path)
    boxes = [[first + 200 * k, 7, first + 200 * k + 90, 300] for k in range(len(ids))]
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Scene(name, path, (640, 480), boxes, np.array(ids, dtype=int))


def make(root: Path) -> Dataset:
    train = [scene(root, "a.jpg", [1, 0]), scene(root, "b.jpg", [0, UNLABELLED], 9.25)]
    test = [scene(root, f"t{k}.jpg", ids) for k, ids in enumerate([[5], [5], [6, 5], [6], []])]
    queries = [Query("t0.jpg", test[0].boxes[0], 5), Query("t3.jpg", test[3].boxes[0], 6)]
    galleries = [["t4.jpg", "t1.jpg", "t3.jpg"], ["t2.jpg", "t4.jpg", "t0.jpg"]]
    protocols = {
        "gallery-50": make_protocol("gallery-50", test, queries, galleries),
        "occlusion": make_protocol("occlusion", test, queries[1:], galleries[1:]),
        "all": all_protocol(test),
    }
    return Dataset("mine", root, {"train": train, "test": test}, protocols)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    dataset = make(tmp_path / "in")
    dropped = cuhk_sysu_writer.write(dataset, tmp_path / "out")
    again = cuhk_sysu.read(tmp_path / "out")
    assert again.dropped == []
    for split in ("train", "test"):
        for old, new in zip(dataset.split(split), again.split(split), strict=True):
            assert (old.name, old.size) == (new.name, new.size)
            assert old.boxes.tobytes() == new.boxes.tobytes()
            assert old.path.read_bytes() == new.path.read_bytes()
    assert [s.ids.tolist() for s in again.split("train")] == [[1, 0], [0, UNLABELLED]]
    # Test ids are the places of the queries: 5 is asked first, 6 second. Only listed answers count.
    assert [s.ids.tolist() for s in again.split("test")] == [[0], [0], [1, -1], [1], []]
    assert list(again.protocols) == ["gallery-50", "full", "occlusion"]
    old, new = dataset.protocols["gallery-50"], again.protocols["gallery-50"]
    assert [q.scene for q in new.queries] == ["t0.jpg", "t3.jpg"]
    for a, b in zip(old.galleries, new.galleries, strict=True):
        assert sorted(a) == sorted(b)
    # Right answers come first.
    assert new.galleries[0] == ["t1.jpg", "t4.jpg", "t3.jpg"]
    for a, b in zip(old.targets, new.targets, strict=True):
        assert {k: v.tolist() for k, v in a.items()} == {k: v.tolist() for k, v in b.items()}
    assert [(entry.where, entry.reason) for entry in dropped] == [
        ("all", "protocol that CUHK-SYSU has no file for")
    ]


def test_shapes_and_types_are_those_of_the_real_files(tmp_path: Path) -> None:
    cuhk_sysu_writer.write(make(tmp_path / "in"), tmp_path / "out")
    root = tmp_path / "out" / "annotation"
    images = loadmat(root / "Images.mat")["Img"]
    assert (images.shape, images.dtype.names) == ((1, 7), ("imname", "nAppear", "box"))
    assert images[0, 0]["box"].shape == (1, 2)
    boxes = [images[0, k]["box"][0, j]["idlocate"] for k, j in ((0, 0), (0, 1), (1, 0))]
    assert [box.shape for box in boxes] == [(1, 4)] * 3
    assert [box.dtype for box in boxes] == [np.uint16, np.uint16, np.float64]
    assert boxes[0].tolist() == [[3, 7, 90, 293]]
    pool = loadmat(root / "pool.mat")["pool"]
    assert (pool.shape, pool[0, 0].tolist()) == ((5, 1), ["t0.jpg"])
    folder = root / "test" / "train_test"
    train = loadmat(folder / "Train.mat")["Train"]
    assert (train.shape, train[0, 0].shape) == ((2, 1), (1, 1))
    assert train[0, 0].dtype.names == ("idname", "nAppear", "scene")
    assert train[0, 0][0, 0]["scene"].shape == (1, 2)
    table = loadmat(folder / "TestG50.mat")["TestG50"]
    assert (table.shape, table.dtype.names) == ((1, 2), ("Query", "Gallery"))
    assert table[0, 0]["Query"].dtype.names == ("imname", "idlocate", "ishard", "idname")
    gallery = table[0, 0]["Gallery"]
    assert (gallery.shape, gallery.dtype.names) == ((1, 3), ("imname", "idlocate", "ishard"))
    assert [g["idlocate"].shape for g in gallery[0]] == [(1, 4), (1, 0), (1, 0)]
    occlusion = loadmat(root / "test" / "subset" / "Occlusion.mat")["Occlusion1"]
    assert (occlusion.shape, occlusion.dtype.names) == ((1, 1), ("Query", "Gallery", "occlusion"))


def test_galleries_are_drawn_where_there_are_none(tmp_path: Path) -> None:
    test = [scene(tmp_path / "in", f"t{k:02d}.jpg", [k % 6]) for k in range(60)]
    dataset = Dataset("mine", tmp_path, {"test": test}, {"all": all_protocol(test)})
    cuhk_sysu_writer.write(dataset, tmp_path / "out", pictures=False)
    assert not (tmp_path / "out" / "Image").exists()
    protocol = cuhk_sysu.read(tmp_path / "out").protocols["gallery-50"]
    assert len(protocol.queries) == 6
    for query, gallery, targets in zip(
        protocol.queries, protocol.galleries, protocol.targets, strict=True
    ):
        assert len(set(gallery)) == len(gallery) == 50
        assert query.scene not in gallery
        assert len(targets) == 9
    again = cuhk_sysu_writer.sample_galleries(
        all_protocol(test), [s.name for s in test], 50, seed=0
    )
    assert [list(g) for g in again.galleries] == [list(g) for g in protocol.galleries]


def test_two_pictures_of_one_file_name(tmp_path: Path) -> None:
    test = [scene(tmp_path, name, [1]) for name in ("x/a.jpg", "y/a.jpg")]
    dataset = Dataset("mine", tmp_path, {"test": test})
    with pytest.raises(DataError, match="the same file name"):
        cuhk_sysu_writer.write(dataset, tmp_path / "out")
