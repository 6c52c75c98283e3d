from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from personsearch.datasets import detect_format, open_dataset
from personsearch.datasets.convert import TARGETS, convert
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.protocols import all_protocol
from personsearch.errors import DataError
from personsearch.types import Scene


def make(root: Path) -> Dataset:
    scenes = []
    for name, ids in (
        ("x/a.png", [0, 1]),
        ("x/b.jpg", [1]),
        ("y/c.jpg", [2, 3]),
        ("d.jpg", [3, 2]),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (len(scenes), 0, 0)).save(root / name)
        boxes = [[10 * k + 0.3, 1, 10 * k + 8, 30] for k in range(len(ids))]
        scenes.append(Scene(name, root / name, (80, 60), np.array(boxes), np.array(ids), 1))
    splits = {"train": scenes[:2], "test": scenes[2:]}
    return Dataset("mine", root, splits, {"all": all_protocol(scenes[2:])})


@pytest.mark.parametrize("to", list(TARGETS))
def test_every_target_reads_back(tmp_path: Path, to: str) -> None:
    dataset, seen = make(tmp_path / "in"), []
    convert(dataset, tmp_path / "out", to, progress=lambda *p: seen.append(p))
    assert (seen[0], seen[-1], detect_format(tmp_path / "out")) == ((1, 4), (4, 4), to)
    again = open_dataset(tmp_path / "out")
    assert again.dropped == []
    for split in ("train", "test"):
        for old, new in zip(dataset.split(split), again.split(split), strict=True):
            assert old.boxes.tobytes() == new.boxes.tobytes()
            assert new.path.is_relative_to(tmp_path / "out")
            with Image.open(new.path) as picture:
                assert picture.size == (80, 60)
    old, new = dataset.protocol("all"), next(iter(again.protocols.values()))
    assert [q.box.tobytes() for q in old.queries] == [q.box.tobytes() for q in new.queries]
    assert [len(t) for t in old.targets] == [len(t) for t in new.targets]


def test_scenes_keep_their_names_and_bytes(tmp_path: Path) -> None:
    dataset = make(tmp_path / "in")
    (tmp_path / "in" / "d.jpg").unlink()
    dropped = convert(dataset, tmp_path / "out", "scenes")
    again = open_dataset(tmp_path / "out")
    assert [scene.name for scene in again] == [scene.name for scene in dataset]
    for old, new in zip(list(dataset)[:3], again, strict=False):
        assert old.path.read_bytes() == new.path.read_bytes()
    assert [(d.where, d.reason) for d in dropped] == [("d.jpg", "picture that cannot be read")]


def test_a_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    dataset = make(tmp_path / "in")
    evil = replace(dataset.split("test")[1], name="../../evil.jpg")
    convert(replace(dataset, splits={"test": [evil]}, protocols={}), tmp_path / "out", "scenes")
    assert (tmp_path / "out" / "images" / "evil.jpg").is_file()
    assert not list(tmp_path.glob("evil*"))


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    dataset = make(tmp_path / "in")
    with pytest.raises(
        DataError, match="cannot convert to 'voc'; it can be scenes, cuhk-sysu, prw"
    ):
        convert(dataset, tmp_path / "out", "voc")
    with pytest.raises(DataError, match="has something in it"):
        convert(dataset, tmp_path / "in", "scenes")
    with pytest.raises(DataError, match="has no scenes"):
        convert(replace(dataset, splits={}), tmp_path / "out", "scenes")


@pytest.mark.parametrize("to", ["cuhk-sysu", "prw"])
def test_regions_to_ignore_are_counted_where_a_format_has_none(tmp_path: Path, to: str) -> None:
    dataset = make(tmp_path / "in")
    regions = np.array([[0, 0, 9, 9], [20, 20, 40, 40]])
    first, *others = dataset.split("train")
    splits = {**dataset.splits, "train": [replace(first, ignored=regions), *others]}
    dropped = convert(replace(dataset, splits=splits), tmp_path / "out", to)
    regions_left_out = [d.where for d in dropped if d.reason == "region to ignore"]
    assert regions_left_out == ["x/a.png"] * 2
