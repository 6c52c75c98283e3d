from pathlib import Path

import numpy as np
import pytest

from personsearch.datasets import scenes
from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError
from personsearch.synthetic.annotated_layouts import choose, viewpoint
from personsearch.types import UNLABELLED, Scene

PRW = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "prw-annotations"


def scene(number, ids, camera=0, feet=100.0):
    boxes = [[10 * k, feet - 40, 10 * k + 8, feet] for k in range(len(ids))]
    return Scene(
        name=f"{number}.jpg",
        path=Path(f"{number}.jpg"),
        size=(200, 120),
        boxes=np.array(boxes, np.float32),
        ids=np.array(ids, np.int64),
        camera=camera,
    )


def dataset(**splits):
    return Dataset("set", Path("set"), splits)


def labelled(part):
    return {k for s in part for k in s.ids.tolist()} - {UNLABELLED}


def test_splits_of_the_file_are_kept():
    source = dataset(train=[scene(1, [0, 1]), scene(2, [0])], test=[scene(3, [7])])
    chosen = choose(source, None)
    assert [s.name for s in chosen["train"]] == ["1.jpg", "2.jpg"]
    assert [s.name for s in chosen["test"]] == ["3.jpg"]


def test_one_split_is_divided_into_disjoint_identities():
    source = dataset(train=[scene(k, [k // 4, k // 4 + 1]) for k in range(80)])
    chosen = choose(source, None)
    assert len(chosen["train"]) + len(chosen["test"]) == 80
    assert not labelled(chosen["train"]) & labelled(chosen["test"])
    assert labelled(chosen["train"]) | labelled(chosen["test"]) == set(range(21))
    assert 4 <= len(labelled(chosen["test"])) <= 10
    assert sum(len(s.boxes) for part in chosen.values() for s in part) == 160


def test_a_small_choice_prefers_identities_that_several_cameras_see():
    once = [scene(k, [100 + k]) for k in range(60)]
    often = [scene(60 + k, [k % 5], camera=k % 3) for k in range(40)]
    source = dataset(train=once + often, test=[scene(200 + k, [900]) for k in range(60)])
    chosen = choose(source, 30)
    assert (len(chosen["train"]), len(chosen["test"])) == (19, 10)
    assert labelled(chosen["train"]) < set(range(5))
    names = [s.name for s in chosen["train"]]
    assert names == sorted(names, key=lambda name: int(name.split(".")[0]))


def test_pictures_without_boxes_are_no_layout():
    with pytest.raises(DataError, match="0 pictures with boxes"):
        choose(dataset(test=[scene(1, []), scene(2, [])]), None)


def test_viewpoint_recovers_level_ground():
    # One unit below the horizon at row 20 for each 1.25 units of eye height.
    people = []
    for foot in range(60, 110, 5):
        tall = (foot - 20) / 1.25
        people.append([5.0, foot - tall, 15.0, foot])
    seen = Scene("s", Path("s"), (200, 120), np.array(people), np.full(10, -1), camera=0)
    horizon, eye, far = viewpoint([seen])
    assert horizon * 120 == pytest.approx(20, abs=1)
    assert eye == pytest.approx(1.25, rel=0.05)
    assert horizon < far <= 60 / 120


@pytest.mark.skipif(not PRW.is_dir(), reason="the PRW annotations are not here")
def test_prw_identities_recur_in_a_small_choice():
    chosen = choose(scenes.read(PRW / "train_pid.json"), 200)
    assert (len(chosen["train"]), len(chosen["test"])) == (130, 70)
    for part in chosen.values():
        seen: dict[int, set[int]] = {}
        for s in part:
            for k in set(s.ids.tolist()) - {UNLABELLED}:
                seen.setdefault(k, set()).add(s.camera)
        assert np.mean([len(cameras) > 1 for cameras in seen.values()]) > 0.4
