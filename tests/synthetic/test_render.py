from dataclasses import replace

import cv2
import numpy as np
import pytest

from personsearch.synthetic.layouts import Placement, Prop, ScenePlan
from personsearch.synthetic.optics import Camera
from personsearch.synthetic.randomness import Random
from personsearch.synthetic.render import render
from personsearch.synthetic.wardrobe import random_look

CAMERA = Camera(
    index=2,
    seed=1,
    place="plaza",
    size=(320, 240),
    horizon=0.1,
    eye=1.2,
    far=0.35,
    near=1.0,
    gain=(256, 256, 256),
    bend=0,
    saturation=256,
    blur=1,
    noise=0,
)


def somebody(number, x, foot, unit=120.0, **more):
    look = random_look(Random(number))
    look = replace(look, hat="none", bag="none")
    return Placement(look, number, x, foot, unit, view=0, step=0, **more)


def plan(*people, props=()):
    return ScenePlan("s.jpg", "person", "test", (0, 1), CAMERA, 0.0, people, tuple(props))


def test_boxes_hug_the_people_in_the_decoded_picture():
    with_person = render(plan(somebody(4, 160.0, 200.0)))
    without = render(plan())
    first = cv2.imdecode(np.frombuffer(with_person.jpeg, np.uint8), cv2.IMREAD_COLOR)
    second = cv2.imdecode(np.frombuffer(without.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert first.shape == (240, 320, 3)
    (seen,) = with_person.people
    x1, y1, x2, y2 = seen.box
    assert seen.visible == 1.0
    assert y2 - y1 == pytest.approx(120, rel=0.08)
    changed = np.abs(first.astype(int) - second).max(axis=2) > 60
    rows, columns = np.nonzero(changed[:190])
    assert abs(rows.min() - y1) <= 3
    assert columns.min() >= x1 - 2
    assert columns.max() <= x2 + 2


def test_a_person_behind_another_is_less_visible_and_keeps_the_whole_box():
    alone = render(plan(somebody(1, 160.0, 180.0))).people[0]
    both = render(plan(somebody(1, 160.0, 180.0), somebody(2, 178.0, 190.0))).people
    assert [person.id for person in both] == [1, 2]
    assert both[0].box == alone.box
    assert 0.35 <= both[0].visible < 0.9
    assert both[1].visible == 1.0


def test_hidden_people_and_people_outside_are_not_annotated():
    hidden = render(plan(somebody(1, 160.0, 180.0), somebody(2, 160.0, 182.0)))
    assert [person.id for person in hidden.people] == [2]
    assert render(plan(somebody(1, -60.0, 180.0))).people == ()
    assert render(plan(somebody(1, 160.0, 180.0, unit=20.0))).people == ()


def test_the_border_cuts_boxes():
    (seen,) = render(plan(somebody(1, 160.0, 260.0))).people
    assert seen.box[3] == 240.0
    assert 0.6 < seen.visible < 0.95


def test_things_in_front_hide_and_things_behind_do_not():
    person = somebody(1, 160.0, 200.0)
    bush = Prop("bush", 3, 160.0, 205.0, 120.0)
    hidden = render(plan(person, props=[bush])).people[0].visible
    assert 0.4 < hidden < 0.85
    assert render(plan(person, props=[replace(bush, foot=195.0)])).people[0].visible == 1.0


def test_a_given_box_is_filled_and_kept():
    box = (100.25, 60.5, 141.75, 170.5)
    with_person = render(plan(somebody(5, 121.0, 170.5, box=box, fill=box)))
    (seen,) = with_person.people
    assert seen.box == box
    first = cv2.imdecode(np.frombuffer(with_person.jpeg, np.uint8), cv2.IMREAD_COLOR)
    second = cv2.imdecode(np.frombuffer(render(plan()).jpeg, np.uint8), cv2.IMREAD_COLOR)
    rows, columns = np.nonzero(np.abs(first.astype(int) - second).max(axis=2)[:160] > 50)
    assert abs(rows.min() - 60) <= 3
    assert 98 <= columns.min() <= 112
    assert 130 <= columns.max() <= 144
