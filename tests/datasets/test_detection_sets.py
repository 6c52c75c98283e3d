"""Detection sets as they are published: small folders with the same files and lines."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from personsearch.bench.fingerprint import of_dataset
from personsearch.datasets import detect_format, open_dataset
from personsearch.datasets.convert import convert
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.doctor import examine
from personsearch.datasets.stats import statistics
from personsearch.errors import AnnotationError, PictureError
from personsearch.types import UNLABELLED

WIDER_TRAIN = (
    "img08456.jpg 1 36 41 10 20 1 44 39 9 22 2 96 25 6 17\n"
    "img15984.jpg\n"
    "img07710.jpg 2 78 55 18 26\n"
)
WIDER_IGNORED = "img08456.jpg 20 57 13 23 0 17 6 18 \nimg07710.jpg 133 0 40 24 \n"

CROWDHUMAN = (
    '{"ID": "273271,c9db000d5146c15", "gtboxes": [{"fbox": [72, 20, 16, 50], "tag": "person", '
    '"hbox": [77, 21, 6, 8], "extra": {"box_id": 0, "occ": 0}, "vbox": [72, 20, 16, 39], '
    '"head_attr": {"ignore": 0, "occ": 0, "unsure": 0}}, {"fbox": [-9, 90, 24, 51], "tag": '
    '"person", "hbox": [3, 18, 5, 7], "extra": {"box_id": 1, "occ": 1}, "vbox": [0, 90, 11, 30], '
    '"head_attr": {"ignore": 0, "occ": 0, "unsure": 0}}, {"fbox": [100, 0, 40, 30], "tag": '
    '"person", "hbox": [0, 0, 1, 1], "extra": {"box_id": 2, "ignore": 1, "occ": 1}, "vbox": '
    '[100, 0, 40, 30], "head_attr": {"ignore": 1}}, {"fbox": [0, 0, 30, 40], "tag": "mask", '
    '"hbox": [0, 0, 30, 40], "extra": {"ignore": 1}, "vbox": [0, 0, 30, 40], "head_attr": {}}]}\n'
    '{"ID": "282555,30b11000d52b2b1c", "gtboxes": []}\n'
)

MOT17 = """\
1,1,91,48,18,44,1,1,1
1,2,135,57,15,40,1,1,0.5
1,3,10,10,18,44,0,7,1
2,1,92,48,18,44,1,1,1
"""


def _picture(path: Path, shade: int = 0, size: tuple[int, int] = (160, 120)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 9, 9)).save(path)


@pytest.fixture
def wider(tmp_path: Path) -> Path:
    root = tmp_path / "wider"
    for shade, name in enumerate(("img08456", "img15984", "img07710")):
        _picture(root / "train" / f"{name}.jpg", shade * 40)
    _picture(root / "val" / "img18169.jpg", 200)
    (root / "train_annotations.txt").write_bytes(WIDER_TRAIN.encode())
    (root / "pedestrian_ignore_part_train.txt").write_bytes(WIDER_IGNORED.encode())
    (root / "val_annotations.txt").write_bytes(b"img18169.jpg 1 11 27 18 29\n")
    return root


@pytest.fixture
def crowdhuman(tmp_path: Path) -> Path:
    root = tmp_path / "crowdhuman"
    _picture(root / "Images" / "273271,c9db000d5146c15.jpg")
    _picture(root / "Images" / "282555,30b11000d52b2b1c.jpg", 90)
    (root / "annotation_train.odgt").write_bytes(CROWDHUMAN.encode())
    return root


@pytest.fixture
def mot17(tmp_path: Path) -> Path:
    root = tmp_path / "mot"
    for part, sequence in (("train", "MOT17-02"), ("train", "MOT17-04"), ("test", "MOT17-01")):
        folder = root / part / sequence
        for number in (1, 2, 3):
            _picture(
                folder / "img1" / f"{number:06}.jpg", number * 20 + len(part) + int(sequence[-1])
            )
        (folder / "seqinfo.ini").write_text(
            f"[Sequence]\nname={sequence}\nimDir=img1\nframeRate=30\nseqLength=3\nimWidth=160\n"
            "imHeight=120\nimExt=.jpg\n"
        )
        if part == "train":
            (folder / "gt").mkdir()
            (folder / "gt" / "gt.txt").write_bytes(MOT17.replace("\n", "\r\n").encode())
    return root


def test_wider_pedestrian(wider: Path) -> None:
    assert detect_format(wider) == "wider-pedestrian"
    dataset = open_dataset(wider)
    assert dataset.name == "Wider Pedestrian"
    train, val = dataset.split("train"), dataset.split("val")
    assert [s.name for s in train] == ["img08456.jpg", "img15984.jpg", "img07710.jpg"]
    # Pedestrians and cyclists are people.
    assert train[0].boxes.tolist() == [[36, 41, 46, 61], [44, 39, 53, 61], [96, 25, 102, 42]]
    assert train[0].ignored.tolist() == [[20, 57, 33, 80], [0, 17, 6, 35]]
    assert [len(s.boxes) for s in (*train, *val)] == [3, 0, 1, 1]
    # A region that passes the border is cut there.
    assert train[2].ignored.tolist() == [[133, 0, 160, 24]]
    assert all((s.ids == UNLABELLED).all() for s in dataset)
    assert train[0].path == wider / "train" / "img08456.jpg"
    assert not dataset.dropped


def test_crowdhuman(crowdhuman: Path) -> None:
    assert detect_format(crowdhuman) == "crowdhuman"
    dataset = open_dataset(crowdhuman)
    assert list(dataset.splits) == ["train"]
    first, second = dataset.split("train")
    # Whole bodies, cut at the border of the picture.
    assert first.boxes.tolist() == [[72, 20, 88, 70], [0, 90, 15, 120]]
    assert first.ignored.tolist() == [[100, 0, 140, 30], [0, 0, 30, 40]]
    assert first.ids.tolist() == [UNLABELLED] * 2
    assert (len(second.boxes), len(second.ignored)) == (0, 0)


def test_mot17det(mot17: Path) -> None:
    for root in (mot17, mot17 / "train"):
        assert detect_format(root) == "mot-detection"
        dataset = open_dataset(root)
        train = dataset.split("train")
        assert dataset.name == "MOT17Det"
        names = [f"MOT17-0{s}/00000{k}.jpg" for s in (2, 4) for k in (1, 2, 3)]
        assert [s.name for s in train] == names
        assert train[0].boxes.tolist() == [[91, 48, 109, 92], [135, 57, 150, 97]]
        # The last frame shows nobody; it is a picture of background.
        assert [len(s.boxes) for s in train] == [2, 1, 0] * 2
        assert all((s.ids == UNLABELLED).all() for s in train)
        assert {d.reason for d in dataset.dropped} == {"row marked as not to be considered"}
        assert min(d.where for d in dataset.dropped).startswith("MOT17-02: gt.txt, line 3")


def test_a_sequence_of_mot17_is_read_once(mot17: Path) -> None:
    train = mot17 / "train"
    (train / "MOT17-02").rename(train / "MOT17-02-DPM")
    (train / "MOT17-04").rename(train / "MOT17-02-SDP")
    dataset = open_dataset(mot17)
    assert len(dataset.split("train")) == 3
    reason = "sequence with the results of another detector"
    assert [d.where for d in dataset.dropped if d.reason == reason] == ["MOT17-02-SDP"]


@pytest.mark.parametrize("name", ["wider", "crowdhuman", "mot17"])
def test_doctor_statistics_and_conversion(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    dataset = open_dataset(request.getfixturevalue(name))
    kinds = {finding.what: finding for finding in examine(dataset)}
    assert not [f for f in kinds.values() if f.severity == "error"]
    assert kinds["no labelled person in train"].severity == "warning"
    # These folders are no complete data sets.
    assert kinds["count other than published"].count >= 1
    first = statistics(dataset)[0]
    assert (first.split, first.labelled, first.ids) == ("train", 0, 0)
    assert first.boxes == sum(len(s.boxes) for s in dataset.split("train"))
    assert convert(dataset, tmp_path / "out", "scenes") == []
    again = open_dataset(tmp_path / "out")
    for scene, other in zip(dataset, again, strict=True):
        np.testing.assert_array_equal(scene.boxes, other.boxes)
        np.testing.assert_array_equal(scene.ignored, other.ignored)
    assert of_dataset(again) != of_dataset(without_regions(again)) or name == "mot17"


def without_regions(dataset: Dataset) -> Dataset:
    plain = {
        k: [replace(s, ignored=np.zeros((0, 4))) for s in v] for k, v in dataset.splits.items()
    }
    return replace(dataset, splits=plain)


def test_pictures_that_are_missing_or_damaged_are_left_out(wider: Path) -> None:
    (wider / "train" / "img08456.jpg").unlink()
    (wider / "train" / "img07710.jpg").write_bytes(b"no picture")
    dataset = open_dataset(wider)
    assert [s.name for s in dataset.split("train")] == ["img15984.jpg"]
    assert {d.where: d.reason for d in dataset.dropped} == {
        "img08456.jpg": "missing picture",
        "img07710.jpg": "picture unreadable",
    }
    for path in wider.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(PictureError, match="none of the 4 annotated pictures of Wider Pedestrian"):
        open_dataset(wider)


def test_names_do_not_lead_out_of_the_folder(wider: Path) -> None:
    _picture(wider.parent / "secret.jpg")
    (wider / "train" / "link.jpg").symlink_to(wider.parent / "secret.jpg")
    (wider / "train_annotations.txt").write_text("../secret.jpg 1 1 1 9 9\nlink.jpg 1 1 1 9 9\n")
    dropped = {d.where: d.reason for d in open_dataset(wider).dropped}
    assert dropped["../secret.jpg"] == "missing picture"
    assert dropped["train/link.jpg"] == "link that leads out of the folder"


@pytest.mark.parametrize(
    "line",
    [
        "img08456.jpg 1 36 41 10",  # a number is missing
        "img08456.jpg 3 36 41 10 20",  # no such class
        "img08456.jpg 1 36 x 10 20",
        "img08456.jpg 1 36 41 10 2e3",
        "img08456.jpg 1 36 41 10 " + "9" * 5000,
    ],
)
def test_damaged_lines_of_wider_pedestrian(wider: Path, line: str) -> None:
    (wider / "train_annotations.txt").write_text(WIDER_TRAIN + line + "\n")
    with pytest.raises(AnnotationError, match=r"train_annotations.txt, line 4: .*expected a pictu"):
        open_dataset(wider)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1, 2]",
        '{"ID": "a"}',
        '{"ID": "a", "gtboxes": [{"tag": "person"}]}',
        '{"ID": "a", "gtboxes": [{"tag": "person", "fbox": [1, 2, 3]}]}',
        '{"ID": "a", "gtboxes": [{"tag": "person", "fbox": [1, 2, NaN, 3]}]}',
        '{"ID": "a", "gtboxes": [{"tag": "person", "fbox": [1, 2, 1e999, 3]}]}',
        '{"ID": "a", "gtboxes": [{"tag": "person", "fbox": [1, 2, "3", 3]}]}',
        '{"ID": "a", "gtboxes": [{"tag": "person", "fbox": [1, 2, 1' + "0" * 400 + ", 3]}]}",
        '{"ID": "a", "gtboxes": [{"tag": "person", "extra": 3, "fbox": [1, 2, 3, 3]}]}',
        '{"ID": "a", "gtboxes": ' + "[" * 100_000,
        '{"ID": "\\ud800", "gtboxes": []}',
    ],
)
def test_damaged_lines_of_crowdhuman(crowdhuman: Path, line: str) -> None:
    (crowdhuman / "annotation_train.odgt").write_text(CROWDHUMAN + line + "\n")
    with pytest.raises(AnnotationError, match=r"annotation_train.odgt, line 3: .*expected a JSON"):
        open_dataset(crowdhuman)


def test_files_that_are_not_text_or_not_there(crowdhuman: Path, tmp_path: Path) -> None:
    (crowdhuman / "annotation_train.odgt").write_bytes(b"\xff\xfe")
    with pytest.raises(AnnotationError, match="cannot be read"):
        open_dataset(crowdhuman)
    for format, expected in (
        ("wider-pedestrian", "expected train_annotations.txt or val_annotations.txt"),
        ("crowdhuman", "expected annotation_train.odgt or annotation_val.odgt"),
        ("mot-detection", "expected folders such as train/MOT17-02"),
    ):
        with pytest.raises(AnnotationError, match=expected):
            open_dataset(tmp_path, format)
