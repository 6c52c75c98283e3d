import numpy as np
import pytest

from personsearch.synthetic.drawing import draw, extent
from personsearch.synthetic.optics import make_cameras
from personsearch.synthetic.streets import FURNITURE, PLACES, backdrop, prop


@pytest.mark.parametrize("place", PLACES)
def test_backdrop_fills_its_picture_and_follows_its_seed(place):
    (camera,) = make_cameras(1, (160, 120), (place,), 0)
    picture = backdrop(camera)
    assert picture.shape == (120, 160, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, backdrop(camera))
    assert picture.reshape(-1, 3).std(axis=0).min() > 5
    (other,) = make_cameras(1, (160, 120), (place,), 1)
    assert not np.array_equal(picture, backdrop(other))


def test_places_look_different():
    cameras = make_cameras(len(PLACES), (160, 120), PLACES, 0)
    assert len({backdrop(camera).tobytes() for camera in cameras}) == len(PLACES)


@pytest.mark.parametrize("kind", sorted({kind for kinds in FURNITURE.values() for kind in kinds}))
def test_props_stand_on_the_ground_and_are_opaque(kind):
    shapes = prop(kind, 7)
    x1, y1, x2, y2 = extent(shapes)
    assert -0.06 < y2 < 0.08
    assert y1 < -0.4
    assert x1 < 0 < x2
    assert draw(shapes, (100.0, 100.0), (0.0, 0.0)).pixels[..., 3].max() == 255
    assert not np.array_equal(
        draw(prop(kind, 8), (100.0, 100.0), (0.0, 0.0)).pixels,
        draw(shapes, (100.0, 100.0), (0.0, 0.0)).pixels,
    )


def test_every_place_has_furniture():
    assert set(FURNITURE) == set(PLACES)
