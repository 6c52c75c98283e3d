import pytest

from personsearch.synthetic.drawing import draw, extent
from personsearch.synthetic.object_classes import OBJECT_CLASSES
from personsearch.synthetic.optics import make_cameras
from personsearch.synthetic.randomness import Random

each_class = pytest.mark.parametrize("shown", OBJECT_CLASSES.values(), ids=OBJECT_CLASSES)


@each_class
def test_every_class_can_fill_a_scene(shown):
    rng = Random(0)
    looks = shown.make_looks(5, (0, 2), rng)
    (camera,) = make_cameras(1, (160, 120), shown.places, 0)
    assert shown.backdrop(camera).shape == (120, 160, 3)
    placed = shown.stand(camera, [*enumerate(looks), (-1, shown.random_look(rng))], rng)
    assert {thing.id for thing in placed} <= {-1, 0, 1, 2, 3, 4}
    for thing in placed:
        shapes = shown.shapes(thing.look, thing.view, thing.step)
        x1, y1, x2, y2 = extent(shapes)
        assert -0.7 < x1 < 0 < x2 < 0.7
        assert -1.2 < y1 < -0.5 < y2 < 0.2
        assert draw(shapes, (40.0, 40.0), (0.0, 0.0)).pixels[..., 3].any()
        assert shown.under(thing)
    props = [prop for _ in range(10) for prop in shown.furnish(camera, placed, rng)]
    assert props
    assert all(shown.prop(prop.kind, prop.seed) for prop in props)


@each_class
def test_looks_follow_the_seed_and_differ_from_each_other(shown):
    looks = shown.make_looks(60, (0, 0, 1, 2, 3), Random(3))
    assert looks == shown.make_looks(60, (0, 0, 1, 2, 3), Random(3))
    assert looks != shown.make_looks(60, (0, 0, 1, 2, 3), Random(4))
    assert len(looks) == len(set(looks)) == 60


@each_class
@pytest.mark.parametrize("alike", [0, 1, 3])
def test_groups_have_the_sizes_asked_for(shown, alike):
    assert len(shown.look_group((alike,), Random(alike))) == alike + 1
