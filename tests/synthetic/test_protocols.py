from pathlib import Path

import numpy as np
import pytest

from personsearch.synthetic.protocols import make_protocols
from personsearch.synthetic.randomness import Random
from personsearch.types import UNLABELLED, Scene


@pytest.fixture
def world():
    """60 scenes of 3 cameras; every scene shows two of 10 people and a passer-by."""
    scenes, visible = [], {}
    for k in range(60):
        ids = [k % 10, (k // 3 + 5) % 10 if (k // 3 + 5) % 10 != k % 10 else UNLABELLED, UNLABELLED]
        tall = 40 + 2 * k
        boxes = [[50 * n, 10, 50 * n + 20, 10 + tall + n] for n in range(3)]
        name = f"{k}.jpg"
        scenes.append(
            Scene(name, Path(name), (200, 200), np.array(boxes), np.array(ids), camera=k % 3)
        )
        visible[name] = [1.0, 0.5 if k % 4 == 0 else 0.9, 1.0]
    return scenes, visible


def test_the_usual_protocol_comes_first_and_crosses_cameras(world):
    scenes, visible = world
    by_name = {scene.name: scene for scene in scenes}
    protocols = make_protocols(scenes, visible, (5, 20, 500), Random(0))
    assert list(protocols) == [
        "cross-camera",
        "all",
        "gallery-5",
        "gallery-20",
        "occlusion",
        "resolution",
    ]
    for name, protocol in protocols.items():
        for query, gallery, targets in zip(
            protocol.queries, protocol.galleries, protocol.targets, strict=True
        ):
            assert query.scene not in gallery
            assert targets
            assert set(targets) <= set(gallery)
            if name != "all":
                assert all(by_name[scene].camera != query.camera for scene in gallery)
            for scene, box in targets.items():
                rows = np.flatnonzero(by_name[scene].ids == query.id)
                assert (by_name[scene].boxes[rows] == box).all(axis=1).any()


def test_every_scene_with_the_person_is_a_target(world):
    scenes, visible = world
    protocol = make_protocols(scenes, visible, (5,), Random(0))["cross-camera"]
    for query, targets in zip(protocol.queries, protocol.targets, strict=True):
        expected = {
            scene.name
            for scene in scenes
            if scene.camera != query.camera and query.id in scene.ids.tolist()
        }
        assert set(targets) == expected


def test_gallery_sizes_and_share_of_targets(world):
    scenes, visible = world
    protocol = make_protocols(scenes, visible, (6,), Random(0))["gallery-6"]
    for gallery, targets in zip(protocol.galleries, protocol.targets, strict=True):
        assert len(set(gallery)) == len(gallery) == 6
        assert 1 <= len(targets) <= 3


def test_queries_of_the_subsets_are_hidden_or_small(world):
    scenes, visible = world
    rows = {
        (scene.name, tuple(box.tolist())): share
        for scene in scenes
        for box, share in zip(scene.boxes, visible[scene.name], strict=True)
    }
    protocols = make_protocols(scenes, visible, (6,), Random(0))
    shares = {
        name: [rows[q.scene, tuple(q.box.tolist())] for q in protocol.queries]
        for name, protocol in protocols.items()
    }
    # More than 40 % hidden, and the tenth of all clear boxes that is smallest (section 3.1).
    assert max(shares["occlusion"]) < 0.6
    assert min(shares["cross-camera"]) >= 0.75
    clear = [
        float(box[3] - box[1])
        for scene in scenes
        for box, identity in zip(scene.boxes, scene.ids, strict=True)
        if identity >= 0 and rows[scene.name, tuple(box.tolist())] >= 0.75
    ]
    heights = [float(q.box[3] - q.box[1]) for q in protocols["resolution"].queries]
    assert max(heights) <= np.sort(clear)[len(clear) // 10]


def test_the_same_chance_gives_the_same_protocols(world):
    scenes, visible = world

    def told(seed):
        protocols = make_protocols(scenes, visible, (6,), Random(seed))
        return [
            (name, [q.scene for q in p.queries], [list(g) for g in p.galleries])
            for name, p in protocols.items()
        ]

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_nobody_labelled_means_no_protocol(world):
    scenes, visible = world
    nobody = [
        Scene(s.name, s.path, s.size, s.boxes, np.full(3, UNLABELLED), camera=s.camera)
        for s in scenes
    ]
    assert make_protocols(nobody, visible, (6,), Random(0)) == {}
