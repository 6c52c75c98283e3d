import numpy as np
import pytest

from personsearch.synthetic.drawing import draw, extent
from personsearch.synthetic.optics import make_cameras
from personsearch.synthetic.randomness import Random
from personsearch.synthetic.tattoos import (
    MARKS,
    PLACES,
    STRAPS,
    Mark,
    Tattoo,
    backdrop,
    limb,
    random_tattoo,
    strap,
    tattoo,
    tattoo_group,
)


def cover(look, view):
    return draw(tattoo(look, view, 0), (120.0, 120.0), (80.0, 140.0)).pixels[..., 3]


def test_marks_are_told_apart_by_shape():
    drawn = {cover(Tattoo((Mark(k, 0, 0, 0.4, 0, (0, 0, 0)),), 1.0), 0).tobytes() for k in MARKS}
    assert len(drawn) == len(MARKS)


def test_turning_keeps_the_ink_and_moves_it():
    look = random_tattoo(Random(2))
    upright, turned = cover(look, 0), cover(look, 90)
    assert int(turned.sum()) == pytest.approx(int(upright.sum()), rel=0.05)
    assert upright.shape != turned.shape or not np.array_equal(upright, turned)


def test_a_tattoo_lies_about_its_middle_within_the_limb():
    for seed in range(20):
        x1, y1, x2, y2 = extent(tattoo(random_tattoo(Random(seed)), seed * 31, 0))
        assert max(-x1, x2) < 0.65
        assert max(-0.5 - y1, y2 + 0.5) < 0.65
    lx1, ly1, lx2, ly2 = extent(limb(3))
    assert lx1 < -0.65
    assert lx2 > 0.65
    assert ly1 < -1.15
    assert ly2 > 0.15


def test_groups_share_inks_and_outer_marks():
    for seed in range(4):
        group = tattoo_group((2,), Random(seed))
        assert len({look.marks[1:] for look in group}) == 1
        assert len({look.marks[0].ink for look in group}) == 1
        assert len({look.marks[0].kind for look in group}) == 3


@pytest.mark.parametrize("place", PLACES)
def test_backdrops_follow_their_camera(place):
    (camera,) = make_cameras(1, (80, 60), (place,), 0)
    assert backdrop(camera).shape == (60, 80, 3)
    assert np.array_equal(backdrop(camera), backdrop(camera))


def test_straps_grow_wider():
    heights = []
    for kind in STRAPS:
        shapes = strap(kind, 4)
        heights.append(draw(shapes, (100.0, 100.0), (0.0, 0.0)).pixels[..., 3].astype(int).sum())
    assert heights == sorted(heights)
