from pathlib import Path

import numpy as np

from personsearch.datasets.galleries import Excluding
from personsearch.datasets.protocols import (
    Appearances,
    LazyProtocols,
    all_protocol,
    cross_camera_protocol,
    derived_protocols,
    every_box_protocol,
    make_protocol,
)
from personsearch.types import UNLABELLED, Query, Scene, SearchProtocol


def scene(name: str, ids: list[int], camera: int | None = None) -> Scene:
    boxes = [[10 * k, 0, 10 * k + 5, 20] for k in range(len(ids))]
    return Scene(name, Path(name), (100, 100), np.array(boxes), np.array(ids), camera)


SCENES = [
    scene("a", [1, 2], 1),
    scene("b", [1, UNLABELLED], 1),
    scene("c", [3, 1], 2),
    scene("d", [2, 2, 4], 2),
]


def shown(protocol: SearchProtocol) -> list[tuple[str, int, list[str]]]:
    return [
        (q.scene, q.id, sorted(t)) for q, t in zip(protocol.queries, protocol.targets, strict=True)
    ]


def test_all_has_one_query_for_each_identity_and_camera() -> None:
    protocol = all_protocol(SCENES)
    assert shown(protocol) == [
        ("a", 1, ["b", "c"]),
        ("a", 2, ["d"]),
        ("c", 1, ["a", "b"]),
        ("d", 2, ["a"]),
    ]
    assert list(protocol.galleries[0]) == ["b", "c", "d"]
    # Id 2 stands twice in scene d: the first box is the right answer.
    assert protocol.targets[1]["d"].tolist() == [0, 0, 5, 20]


def test_cross_camera_searches_other_cameras_only() -> None:
    protocol = cross_camera_protocol(SCENES)
    assert shown(protocol) == [
        ("a", 1, ["c"]),
        ("a", 2, ["d"]),
        ("c", 1, ["a", "b"]),
        ("d", 2, ["a"]),
    ]


def test_every_box_is_a_query_where_its_gallery_shows_it() -> None:
    galleries = [["b", "c"], ["a", "b"], ["d"], ["a"]]
    protocol = every_box_protocol("some", SCENES, galleries)
    assert protocol.name == "some"
    # Both boxes of id 2 in scene d; the unlabelled one, id 4, and ids of no gallery are none.
    assert shown(protocol) == [
        ("a", 1, ["b", "c"]),
        ("b", 1, ["a"]),
        ("d", 2, ["a"]),
        ("d", 2, ["a"]),
    ]
    assert [query.box.tolist() for query in protocol.queries[2:]] == [
        [0, 0, 5, 20],
        [10, 0, 15, 20],
    ]
    assert protocol.galleries == [galleries[0], galleries[1], galleries[3], galleries[3]]


def test_derived_protocols_need_identities_and_cameras() -> None:
    assert list(derived_protocols(SCENES)) == ["all", "cross-camera"]
    assert list(derived_protocols([scene("a", [1]), scene("b", [1])])) == ["all"]
    assert list(derived_protocols([scene("a", [UNLABELLED], 1), scene("b", [], 2)])) == []


def test_repeated_identities_are_noted() -> None:
    noted = Appearances(SCENES).repeated
    assert [(entry.where, entry.reason) for entry in noted] == [
        ("d, id 2", "id twice in a scene: first box counts")
    ]


def test_a_lazy_gallery_gives_the_targets_of_its_list() -> None:
    query = Query("a", SCENES[0].boxes[0], 1, 1)
    lazy = Excluding(["a", "c", "d"], frozenset({"d"}))
    by_lazy = make_protocol("lazy", SCENES, [query, query], [lazy, lazy])
    by_list = make_protocol("list", SCENES, [query, query], [list(lazy)] * 2)
    # Scene b is not listed; the query's own scene is never right.
    assert [list(t) for t in by_lazy.targets] == [list(t) for t in by_list.targets] == [["c"]] * 2


def test_lazy_protocols_are_built_once_when_asked_for() -> None:
    built: list[str] = []

    def build() -> SearchProtocol:
        built.append("all")
        return all_protocol(SCENES)

    protocols = LazyProtocols({"all": build})
    assert "all" in protocols
    assert (list(protocols), len(protocols), built) == (["all"], 1, [])
    assert protocols["all"] is protocols["all"]
    assert built == ["all"]
