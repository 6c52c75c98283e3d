import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from personsearch.datasets import scenes
from personsearch.datasets.dataset import Dataset
from personsearch.errors import AnnotationError, DataError
from personsearch.types import UNLABELLED, Scene

PRW = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "prw-annotations"


def table(**changes: Any) -> dict[str, Any]:
    """Four pictures of one folder; person 30 is in two of them."""
    images = [
        {"id": 10, "file_name": "x/a.jpg", "width": 50, "height": 40, "split": "train"},
        {"id": 11, "file_name": "x/b.jpg", "width": 50, "height": 40, "split": "test"},
        {"id": 12, "file_name": "y/c.jpg", "width": 50, "height": 40, "split": "test"},
    ]
    images[1] |= {"camera": 1, "time": 2.5}
    images[2] |= {"camera": 2}
    boxes = [(10, 30, [1, 2, 3, 4]), (10, 20, [5, 5, 9.5, 9]), (10, -1, [0, 0, 9, 9])]
    boxes += [(11, 7, [1, 2, 3, 4]), (12, 7, [2, 3, 3, 4]), (12, -2, [1, 1, 30, 30])]
    annotations = [
        {"id": k, "image_id": i, "category_id": 1, "bbox": box, "iscrowd": 0, "person_id": id_}
        for k, (i, id_, box) in enumerate(boxes, start=100)
    ]
    categories = [{"id": 1, "name": "person"}]
    whole = {"info": {"name": "mine", "object_class": "person"}, "images": images}
    return whole | {"annotations": annotations, "categories": categories} | changes


def save(folder: Path, content: Any, name: str = "scenes.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def assert_same(a: Dataset, b: Dataset) -> None:
    assert (a.name, a.object_class, list(a.splits)) == (b.name, b.object_class, list(b.splits))
    for split in a.splits:
        for x, y in zip(a.splits[split], b.splits[split], strict=True):
            assert (x.name, x.size, x.camera, x.time, x.frame) == (
                y.name,
                y.size,
                y.camera,
                y.time,
                y.frame,
            )
            assert x.path.resolve() == y.path.resolve()
            assert x.boxes.tobytes() == y.boxes.tobytes()
            np.testing.assert_array_equal(x.ids, y.ids)


def test_reads_splits_cameras_and_ids(tmp_path: Path) -> None:
    save(tmp_path, table())
    dataset = scenes.read(tmp_path)
    assert (dataset.name, dataset.object_class) == ("mine", "person")
    (a,), (b, c) = dataset.split("train"), dataset.split("test")
    assert (a.name, b.name, c.name) == ("a.jpg", "b.jpg", "c.jpg")
    assert a.path == tmp_path / "x/a.jpg"
    assert (b.camera, b.time, b.size) == (1, 2.5, (50, 40))
    assert a.boxes.tolist() == [[1, 2, 4, 6], [5, 5, 14.5, 14], [0, 0, 9, 9]]
    # Train ids have no gaps; the others stay, and the file's numbers are kept.
    assert a.ids.tolist() == [1, 0, UNLABELLED]
    assert dataset.source_ids == [20, 30]
    assert (b.ids.tolist(), c.ids.tolist()) == ([7], [7, UNLABELLED])
    assert list(dataset.protocols) == ["all", "cross-camera"]
    assert [q.scene for q in dataset.protocols["cross-camera"].queries] == ["b.jpg", "c.jpg"]
    assert dataset.dropped == []


def test_bad_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    content = table()
    good = content["annotations"][0]
    bad = [
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox is not four numbers"),
        ({"bbox": [1, 2, 3]}, "bbox is not four numbers"),
        ({"bbox": None}, "bbox is not four numbers"),
        ({"bbox": [9, 9, 0, 4]}, "box of zero or negative size"),
        ({"bbox": [9, 9, 5, -4]}, "box of zero or negative size"),
        ({"bbox": [60, 2, 3, 4]}, "box outside its picture"),
        ({"image_id": 99}, "annotation of an image that is not listed"),
        ({"iscrowd": 1}, "crowd region"),
        ({"person_id": "x"}, "person_id is not a whole number"),
    ]
    content["annotations"] += [good | change | {"id": 500} for change, _ in bad]
    content["images"].append({"file_name": "no-id.jpg"})
    content["images"].append({"id": 77, "file_name": "no-size.jpg"})
    save(tmp_path, content)
    dataset = scenes.read(tmp_path)
    reasons = sorted([reason for _, reason in bad])
    reasons += ["image without id or file_name", "image without width and height"]
    assert sorted(entry.reason for entry in dataset.dropped) == sorted(reasons)
    assert sum(len(scene.boxes) for scene in dataset) == 6


def test_a_plain_coco_file(tmp_path: Path) -> None:
    content = table(info={})
    del content["info"]
    for image in content["images"]:
        del image["split"]
    content["images"][0] = {"id": 10, "file_name": "x/c1s2_000001.jpg"}
    content["annotations"][0]["bbox"] = [-5, 2, 10, 100]
    del content["annotations"][3]["person_id"]
    (tmp_path / "p" / "x").mkdir(parents=True)
    Image.new("RGB", (50, 40)).save(tmp_path / "p" / "x" / "c1s2_000001.jpg")
    path = save(tmp_path, content, "instances_train2024.json")
    dataset = scenes.read(path, pictures=tmp_path / "p")
    (first, second, _) = dataset.split("train")
    assert (first.camera, first.size) == (1, (50, 40))
    assert first.boxes[0].tolist() == [0, 2, 5, 40]
    assert second.ids.tolist() == [UNLABELLED]
    assert list(scenes.read(path, tmp_path / "p", split="test").splits) == ["test"]


def test_cameras_named_by_text_are_numbered(tmp_path: Path) -> None:
    content = table()
    for image, camera in zip(content["images"], ("yard", "gate", 4), strict=True):
        image["camera"] = camera
    content["images"].append({"id": 13, "file_name": "d.jpg", "width": 5, "height": 5})
    content["images"][-1] |= {"split": "test", "camera": [1]}
    save(tmp_path, content)
    dataset = scenes.read(tmp_path)
    assert [scene.camera for scene in dataset] == [6, 5, 4, None]
    assert dataset.camera_names == {5: "gate", 6: "yard"}
    assert [(d.where, d.reason) for d in dataset.dropped] == [
        ("d.jpg, camera [1]", "camera is neither a whole number nor a text: left out")
    ]
    # Person 7 is searched from the gate to camera 4.
    assert list(dataset.protocols) == ["all", "cross-camera"]
    scenes.write(dataset, tmp_path / "again")
    written = json.loads((tmp_path / "again" / "scenes.json").read_text())
    assert [image["camera"] for image in written["images"]] == ["yard", "gate", 4, None]
    assert scenes.read(tmp_path / "again").camera_names == dataset.camera_names


@pytest.mark.parametrize("key", ["pid", "personId", "identity"])
def test_another_key_for_the_identity_is_an_error(tmp_path: Path, key: str) -> None:
    content = table()
    for row in content["annotations"]:
        row[key] = row.pop("person_id")
    save(tmp_path, content)
    with pytest.raises(AnnotationError, match=f"have the key '{key}', expected 'person_id'"):
        scenes.read(tmp_path)


def test_only_some_pictures_of_a_file(tmp_path: Path) -> None:
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 50, "height": 40} for k in (1, 2)]
    images.append({"id": 3, "file_name": "absent.jpg"})
    rows = [
        {"id": 10 * number, "image_id": number, "bbox": [1, 1, 5, 9], "person_id": number}
        for number in (1, 2, 3, 4)
    ]
    path = save(tmp_path, {"images": images, "annotations": rows}, "some.json")
    dataset = scenes.read(path, only={"2.jpg"})
    assert [(scene.name, scene.ids.tolist()) for scene in dataset.split("test")] == [("2.jpg", [2])]
    # Nothing is said of the others, but what belongs to no image is damage still.
    assert [(item.where, item.reason) for item in dataset.dropped] == [
        ("annotation 40", "annotation of an image that is not listed")
    ]
    assert not scenes.read(path, only=()).splits


def test_one_category_of_several(tmp_path: Path) -> None:
    content = table(categories=[{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}], info={})
    content["annotations"][1]["category_id"] = 2
    save(tmp_path, content)
    dataset = scenes.read(tmp_path)
    assert [entry.reason for entry in dataset.dropped] == ["another category"]
    content["info"] = {"object_class": "dog"}
    save(tmp_path, content)
    assert sum(len(scene.boxes) for scene in scenes.read(tmp_path)) == 1
    content["info"] = {"object_class": "cat"}
    save(tmp_path, content)
    with pytest.raises(AnnotationError, match="none is 'cat'; it has person, dog"):
        scenes.read(tmp_path)


def test_scenes_of_one_file_name_keep_their_folder(tmp_path: Path) -> None:
    content = table()
    content["images"][2]["file_name"] = "y/b.jpg"
    save(tmp_path, content)
    assert [s.name for s in scenes.read(tmp_path)] == ["x/a.jpg", "x/b.jpg", "y/b.jpg"]
    content["images"][2]["file_name"] = "x/b.jpg"
    save(tmp_path, content)
    with pytest.raises(AnnotationError, match=r"listed more than once, first 'x/b\.jpg'"):
        scenes.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty \(0 bytes\)"),
        ("{", "is not JSON"),
        ("[1]", "holds a JSON list, expected an object"),
        ('{"images": []}', "a list of objects 'annotations'; it has 'images'"),
        ('{"images": [1], "annotations": []}', "a list of objects 'images'"),
        ('{"images": [], "annotations": [], "protocols": 3}', "'protocols' must be a list"),
    ],
)
def test_other_files_have_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "scenes.json").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        scenes.read(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="no such file"):
        scenes.read(tmp_path)


side = st.floats(0, 900, width=32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(side, side, side, side), max_size=6))
def test_boxes_come_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, ...]]
) -> None:
    corners = np.array(rows, dtype=np.float32).reshape(-1, 4)
    boxes = np.concatenate(
        [
            np.minimum(corners[:, :2], corners[:, 2:]),
            np.nextafter(np.maximum(corners[:, :2], corners[:, 2:]), np.float32(1e6)),
        ],
        axis=1,
    )
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    root = tmp_path_factory.mktemp("exact")
    ids = np.full(len(boxes), UNLABELLED)
    scene = Scene("video 7", root / "film.mp4", (1000, 1000), boxes, ids, 3, 0.1, 7)
    dataset = Dataset("exact", root, {"val": [scene]}, object_class="tattoo")
    scenes.write(dataset, root)
    assert_same(dataset, scenes.read(root))


def test_round_trip_of_ids_and_paths(tmp_path: Path) -> None:
    save(tmp_path, table())
    first = scenes.read(tmp_path)
    away = replace(first.split("train")[0], path=tmp_path.parent / "away.jpg", name="away.jpg")
    dataset = replace(first, splits={"train": [away], "test": first.split("test")})
    (tmp_path / "new").mkdir()
    moved = [replace(s, path=tmp_path / "new" / s.name) for s in dataset.split("test")]
    dataset = replace(dataset, splits={"train": [away], "test": moved})
    scenes.write(dataset, tmp_path / "new")
    assert_same(dataset, scenes.read(tmp_path / "new"))
    written = json.loads((tmp_path / "new" / "scenes.json").read_text())
    assert [image["file_name"] for image in written["images"]][1:] == ["b.jpg", "c.jpg"]
    # The file has the numbers of the first file again, so that people can be told across splits.
    assert [row["person_id"] for row in written["annotations"]] == [30, 20, -1, 7, 7, -1]
    assert scenes.read(tmp_path / "new").source_ids == [20, 30]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["scenes.json"]


def test_splits_with_ids_of_their_own_stay_apart(tmp_path: Path) -> None:
    save(tmp_path, table())
    dataset = replace(scenes.read(tmp_path), source_ids=None)
    scenes.write(dataset, tmp_path)
    assert scenes.read(tmp_path).source_ids is None


def test_two_scenes_of_one_name_cannot_be_written(tmp_path: Path) -> None:
    save(tmp_path, table())
    dataset = scenes.read(tmp_path)
    doubled = {"test": [*dataset.split("test"), dataset.split("test")[0]]}
    with pytest.raises(DataError, match=r"two scenes are called 'b\.jpg'"):
        scenes.write(replace(dataset, splits=doubled), tmp_path / "new")


@pytest.mark.skipif(not PRW.is_dir(), reason="no real annotations at ../shared/data")
def test_all_of_prw_reads() -> None:
    train = scenes.read(PRW / "train_pid.json")
    test = scenes.read(PRW / "test_pid.json")
    for dataset, split, count in ((train, "train", (5704, 18048)), (test, "test", (6112, 25062))):
        pictures = dataset.split(split)
        assert (len(pictures), sum(len(scene.boxes) for scene in pictures)) == count
        assert {scene.camera for scene in pictures} == {1, 2, 3, 4, 5, 6}
        assert dataset.dropped == []
    ids = {id_ for scene in train.split("train") for id_ in scene.ids.tolist()}
    assert ids == {UNLABELLED, *range(483)}
    # 450 people are in no training frame: of the training ids, those renumbered to 0..477 are
    # 1..478 in the test file, 478..481 are 480..483, and 482 is 932.
    raw = {*range(1, 479), *range(480, 484), 932}
    seen = {id_ for scene in test.split("test") for id_ in scene.ids.tolist()} - {UNLABELLED}
    assert len(seen - raw) == 450


def test_a_region_to_ignore_that_is_no_box_is_dropped(tmp_path: Path) -> None:
    written = table()
    written["images"][0]["ignored"] = [[1, 2, 3, 4], [0, 0, 0, 9], "x", [60, 50, 9, 9]]
    written["images"][1]["ignored"] = "all"
    dataset = scenes.read(save(tmp_path, written))
    assert dataset.split("train")[0].ignored.tolist() == [[1, 2, 4, 6]]
    assert len(dataset.split("test")[0].ignored) == 0
    counts = [(d.where, d.reason) for d in dataset.dropped if "ignore" in d.reason]
    reason = "region to ignore that is no box in its picture"
    assert counts == [("a.jpg", reason)] * 3 + [("b.jpg", reason)]
