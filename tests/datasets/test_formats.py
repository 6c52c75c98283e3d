import json
from pathlib import Path

import pytest
from PIL import Image

from personsearch.datasets import FORMATS, detect_format, open_dataset
from personsearch.errors import AnnotationError, DataError


def coco(path: Path, file: str, person: int) -> None:
    image = {"id": 1, "file_name": file, "width": 20, "height": 20}
    row = {"id": 1, "image_id": 1, "bbox": [1, 1, 5, 9], "person_id": person}
    path.write_text(json.dumps({"images": [image], "annotations": [row]}))


@pytest.mark.parametrize(
    ("file", "format"),
    [
        ("scenes.json", "scenes"),
        ("annotation/pool.mat", "cuhk-sysu"),
        ("Image/SSM/s1.jpg", "cuhk-sysu"),
        ("frame_test.mat", "prw"),
        ("query_info.txt", "prw"),
        ("gt/gt.txt", "mot"),
        ("gt.txt", "mot"),
        ("some.json", "coco"),
        ("deep/down/a.jpg", "folder"),
    ],
)
def test_the_format_is_told_by_its_files(tmp_path: Path, file: str, format: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert detect_format(tmp_path) == format


def test_files_of_one_data_set_are_joined(tmp_path: Path) -> None:
    coco(tmp_path / "train_pid.json", "a.jpg", 4)
    coco(tmp_path / "test_pid.json", "b.jpg", 4)
    (tmp_path / "other.json").write_text("[]")
    dataset = open_dataset(tmp_path, pictures=tmp_path / "frames")
    assert {name: [s.name for s in scenes] for name, scenes in dataset.splits.items()} == {
        "test": ["b.jpg"],
        "train": ["a.jpg"],
    }
    assert dataset.split("train")[0].path == tmp_path / "frames" / "a.jpg"
    # Each file numbers its people for itself.
    assert (dataset.split("train")[0].ids.tolist(), dataset.source_ids) == ([0], None)
    coco(tmp_path / "train_more.json", "c.jpg", 4)
    with pytest.raises(DataError, match="two of its annotation files have the split 'train'"):
        open_dataset(tmp_path)
    assert list(open_dataset(tmp_path / "train_more.json").splits) == ["train"]


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    assert [scene.name for scene in open_dataset(tmp_path)] == ["a.png"]
    with pytest.raises(DataError, match="for scenes and coco only, this is folder"):
        open_dataset(tmp_path, pictures=tmp_path)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'voc' is unknown; it can be scenes, coco, cuhk-sysu"):
        open_dataset(tmp_path, format="voc")
    with pytest.raises(DataError, match="no such data set"):
        open_dataset(tmp_path / "absent")
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"expected a folder or a COCO style \.json file"):
        open_dataset(tmp_path / "a.txt")
    with pytest.raises(AnnotationError, match=r"no \.json file in it is in COCO style"):
        open_dataset(tmp_path, format="coco")
    names = ["scenes", "coco", "cuhk-sysu", "prw", "market-1501", "mot", "mot-detection"]
    assert list(FORMATS) == [*names, "wider-pedestrian", "crowdhuman", "folder"]
