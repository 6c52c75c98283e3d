"""Market-1501 as published: names, junk, distractors, and the gallery of each query."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from personsearch.datasets import open_dataset
from personsearch.datasets.doctor import examine
from personsearch.errors import AnnotationError
from personsearch.types import UNLABELLED

NAMES = {
    "bounding_box_train": (
        "0002_c1s1_000451_03.jpg",
        "0002_c2s1_000301_01.jpg",
        "0007_c3s3_077419_03.jpg",
        "0007_c1s6_028546_04.jpg",
    ),
    "query": ("0001_c1s1_001051_00.jpg", "0003_c4s6_015641_00.jpg"),
    "bounding_box_test": (
        "-1_c1s1_000401_03.jpg",
        "0000_c1s1_000151_01.jpg",
        "0001_c1s1_002301_02.jpg",
        "0001_c2s1_000301_00.jpg",
        "0003_c4s6_015666_01.jpg",
        "0003_c6s3_088392_04.jpg",
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folders as they are published; every picture is 64 x 128."""
    rng = np.random.default_rng(0)
    for folder, names in NAMES.items():
        (tmp_path / folder).mkdir()
        for name in names:
            pixels = rng.integers(0, 256, (128, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / name)
        (tmp_path / folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    return tmp_path


def test_a_scene_is_one_person(root: Path) -> None:
    dataset = open_dataset(root)
    train = dataset.split("train")
    assert dataset.name == "Market-1501"
    assert [scene.name for scene in train] == [
        f"bounding_box_train/{name}" for name in sorted(NAMES["bounding_box_train"])
    ]
    assert [scene.ids.tolist() for scene in train] == [[0], [0], [1], [1]]
    assert dataset.source_ids == [2, 7]
    assert [scene.camera for scene in train] == [1, 2, 1, 3]
    for scene in dataset:
        assert scene.size == (64, 128)
        assert scene.boxes.tolist() == [[0, 0, 64, 128]]
    assert [(d.where, d.reason) for d in dataset.dropped] == [
        ("bounding_box_test/-1_c1s1_000401_03.jpg", "junk")
    ]
    distractor = dataset.split("test")[2]
    assert distractor.name.endswith("0000_c1s1_000151_01.jpg")
    assert distractor.ids.tolist() == [UNLABELLED]
    assert not [finding for finding in examine(dataset) if finding.severity == "error"]


def test_the_person_is_not_searched_in_the_same_camera(root: Path) -> None:
    protocol = open_dataset(root, "market-1501").protocol("market")
    assert protocol.average_precision == "trapezoid"
    assert [query.id for query in protocol.queries] == [1, 3]
    distractor, one, other = (
        f"bounding_box_test/{name}"
        for name in (
            "0000_c1s1_000151_01.jpg",
            "0001_c2s1_000301_00.jpg",
            "0003_c6s3_088392_04.jpg",
        )
    )
    same = "bounding_box_test/0003_c4s6_015666_01.jpg"
    assert list(protocol.galleries[0]) == [distractor, one, same, other]
    assert list(protocol.targets[0]) == [one]
    assert list(protocol.targets[1]) == [other]
    assert same not in protocol.galleries[1]


def test_other_folders_are_refused(root: Path) -> None:
    (root / "bounding_box_train" / "somebody.jpg").write_bytes(b"")
    with pytest.raises(AnnotationError, match=r"somebody\.jpg: expected a name like 0002_c1s1"):
        open_dataset(root)
    for path in (root / "bounding_box_train").iterdir():
        path.unlink()
    with pytest.raises(AnnotationError, match="has no pictures; expected Market-1501"):
        open_dataset(root)


def test_unreadable_pictures_are_dropped(root: Path) -> None:
    (root / "bounding_box_train" / "0009_c1s1_000001_00.jpg").write_bytes(b"not a picture")
    dropped = open_dataset(root).dropped
    assert ("picture unreadable") in {d.reason for d in dropped}


def test_links_that_lead_out_of_the_folder_are_dropped(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    train = root / "bounding_box_train"
    picture = next(train.iterdir())
    outside = tmp_path_factory.mktemp("outside") / "elsewhere.jpg"
    outside.write_bytes(picture.read_bytes())
    (train / "0009_c1s1_000001_00.jpg").symlink_to(outside)
    (train / "0009_c1s1_000002_00.jpg").symlink_to(picture)
    (train / "0009_c1s1_000003_00.jpg").symlink_to("0009_c1s1_000003_00.jpg")
    dataset = open_dataset(root)
    assert "bounding_box_train/0009_c1s1_000002_00.jpg" in {s.name for s in dataset.split("train")}
    assert [(d.where[-13:-4], d.reason) for d in dataset.dropped if "0009" in d.where] == [
        ("000001_00", "link that leads out of the folder"),
        ("000003_00", "picture unreadable"),
    ]
