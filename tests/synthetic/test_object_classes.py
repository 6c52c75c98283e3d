import numpy as np
import pytest

from personsearch.synthetic.drawing import draw, extent
from personsearch.synthetic.object_classes import OBJECT_CLASSES
from personsearch.synthetic.optics import make_cameras


@pytest.mark.parametrize("name", sorted(OBJECT_CLASSES))
def test_every_class_can_fill_a_scene(name):
    shown = OBJECT_CLASSES[name]
    rng = np.random.Generator(np.random.PCG64(0))
    looks = shown.make_looks(5, (0, 2), rng)
    assert len(set(looks)) == 5
    (camera,) = make_cameras(1, (160, 120), shown.places, 0)
    assert shown.backdrop(camera).shape == (120, 160, 3)
    placed = shown.stand(camera, [*enumerate(looks), (-1, shown.random_look(rng))], rng)
    assert {figure.id for figure in placed} <= {-1, 0, 1, 2, 3, 4}
    for figure in placed:
        shapes = shown.shapes(figure.look, figure.view, figure.step)
        x1, y1, x2, y2 = extent(shapes)
        assert -0.7 < x1 < 0 < x2 < 0.7
        assert -1.2 < y1 < -0.5 < y2 < 0.2
        assert draw(shapes, (40.0, 40.0), (0.0, 0.0)).pixels[..., 3].any()
        assert shown.under(figure)
    props = [prop for _ in range(10) for prop in shown.furnish(camera, placed, rng)]
    assert props
    assert all(shown.prop(prop.kind, prop.seed) for prop in props)
