import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personsearch.datasets import scenes
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.galleries import Excluding, other_cameras
from personsearch.datasets.protocols import all_protocol, cross_camera_protocol, make_protocol
from personsearch.datasets.scene_protocols import unlabelled_boxes
from personsearch.errors import AnnotationError, DataError
from personsearch.types import UNLABELLED, Query, Scene, SearchProtocol


def scene(root: Path, name: str, camera: int, ids: list[int]) -> Scene:
    boxes = [[10 * k + 0.1, 0.7, 10 * k + 5.3, 20] for k in range(len(ids))]
    return Scene(name, root / name, (100, 100), np.array(boxes), np.array(ids), camera)


def make(root: Path, split: str = "test") -> Dataset:
    pictures = [
        scene(root, "a.jpg", 1, [1, 2]),
        scene(root, "b.jpg", 1, [1, UNLABELLED]),
        scene(root, "c.jpg", 2, [3, 1]),
        scene(root, "d.jpg", 2, [2, 2, UNLABELLED]),
    ]
    return Dataset("mine", root, {split: pictures})


def round_trip(dataset: Dataset, protocol: SearchProtocol) -> tuple[SearchProtocol, Any]:
    scenes.write(replace(dataset, protocols={protocol.name: protocol}), dataset.root)
    table = json.loads((dataset.root / "scenes.json").read_text())["protocols"][0]
    return scenes.read(dataset.root).protocol(protocol.name), table


def assert_same(a: SearchProtocol, b: SearchProtocol) -> None:
    assert (a.name, a.average_precision) == (b.name, b.average_precision)
    assert a.known_only is b.known_only
    for x, y in zip(a.queries, b.queries, strict=True):
        assert (x.scene, x.id, x.camera) == (y.scene, y.id, y.camera)
        assert x.box.tobytes() == y.box.tobytes()
    assert [list(g) for g in a.galleries] == [list(g) for g in b.galleries]
    for maps in ((a.targets, b.targets), (a.ignored, b.ignored)):
        for x, y in zip(*maps, strict=True):
            assert {n: box.tobytes() for n, box in x.items()} == {
                n: box.tobytes() for n, box in y.items()
            }


def test_whole_galleries_take_a_word(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    for build, word in ((all_protocol, "all"), (cross_camera_protocol, "cross-camera")):
        protocol = build(dataset.split("test"), "mine")
        read, table = round_trip(dataset, protocol)
        assert_same(read, protocol)
        assert (table["gallery"], "galleries" in table) == (word, False)
        assert isinstance(read.galleries[0], Excluding)


def test_lists_with_doubles_stay_as_they_are(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    pictures = dataset.split("test")
    queries = [
        Query("a.jpg", pictures[0].boxes[1], 2, 1),
        Query("c.jpg", pictures[2].boxes[1], 1, 2),
    ]
    galleries = [["d.jpg", "d.jpg", "b.jpg"], ["b.jpg", "a.jpg"]]
    protocol = make_protocol("lists", pictures, queries, galleries)
    read, table = round_trip(dataset, protocol)
    assert_same(read, protocol)
    assert (table["queries"], table["galleries"]) == ([2, 6], [[4, 4, 2], [2, 1]])
    assert "targets" not in table


def test_what_identities_do_not_tell_is_spelt_out(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    pictures = dataset.split("test")
    free = np.array([1.1, 2.2, 3.3, 4.4], np.float32)
    protocol = SearchProtocol(
        name="odd",
        queries=[Query("a.jpg", free, 9, 1), Query("a.jpg", pictures[0].boxes[0], 1, 1)],
        galleries=[["b.jpg"], ["d.jpg", "c.jpg"]],
        targets=[{"b.jpg": pictures[1].boxes[1]}, {"d.jpg": free}],
        ignored=[{}, {"c.jpg": np.stack([pictures[2].boxes[0], free])}],
        average_precision="trapezoid",
    )
    read, table = round_trip(dataset, protocol)
    assert_same(read, protocol)
    assert table["queries"][0]["person_id"] == 9
    assert (table["targets"][0], table["average_precision"]) == ([4], "trapezoid")


def test_ignoring_everyone_unlabelled_takes_a_word(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    pictures = dataset.split("test")
    queries = all_protocol(pictures).queries
    ignored = [unlabelled_boxes(pictures)] * len(queries)
    protocol = make_protocol(
        "original", pictures, queries, other_cameras(queries, pictures), ignored=ignored
    )
    read, table = round_trip(dataset, protocol)
    assert_same(read, protocol)
    assert table["ignored"] == "unlabelled"
    assert sorted(read.ignored[0]) == ["b.jpg", "d.jpg"]
    assert "known_only" not in table
    read, table = round_trip(dataset, replace(protocol, known_only=True))
    assert (read.known_only, table["known_only"]) == (True, True)


def test_a_protocol_may_be_over_another_split(tmp_path: Path) -> None:
    dataset = make(tmp_path, "val")
    protocol = all_protocol(dataset.split("val"), "val")
    read, table = round_trip(dataset, protocol)
    assert_same(read, protocol)
    assert (table["split"], table["gallery"]) == ("val", "all")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"queries": [99], "gallery": "all"}, "protocol 'p': 99 is missing, or no image"),
        ({"queries": [1], "galleries": [[99]]}, "99 is missing, or no image"),
        ({"gallery": "all"}, "'queries' is missing"),
        ({"queries": [1], "gallery": "some"}, "gallery is 'some', expected 'all' or"),
        ({"queries": [1], "galleries": []}, "1 queries but 0 galleries"),
        ({"queries": 3, "gallery": "all"}, "is malformed"),
    ],
)
def test_contradictions_have_one_clear_error(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    scenes.write(make(tmp_path), tmp_path)
    path = tmp_path / "scenes.json"
    table = json.loads(path.read_text()) | {"protocols": [{"name": "p"} | row]}
    path.write_text(json.dumps(table))
    dataset = scenes.read(tmp_path)
    with pytest.raises(AnnotationError, match=message):
        dataset.protocol("p")


def test_a_gallery_of_unknown_scenes_cannot_be_written(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    query = Query("a.jpg", dataset.split("test")[0].boxes[0], 1, 1)
    protocol = SearchProtocol(name="p", queries=[query], galleries=[["z.jpg"]], targets=[{}])
    with pytest.raises(DataError, match=r"names scene 'z\.jpg', which is in no split"):
        scenes.write(replace(dataset, protocols={"p": protocol}), tmp_path)
    assert list(tmp_path.iterdir()) == []
