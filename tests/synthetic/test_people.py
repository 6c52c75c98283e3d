from dataclasses import replace

import numpy as np
import pytest

from personsearch.synthetic.drawing import draw, extent
from personsearch.synthetic.people import person
from personsearch.synthetic.randomness import Random
from personsearch.synthetic.wardrobe import (
    BAGS,
    BOTTOMS,
    HAIR_STYLES,
    HATS,
    TOPS,
    Cloth,
    random_look,
)

VIEWS = range(0, 360, 45)


@pytest.fixture
def look():
    plain = Cloth("plain", (200, 40, 40), (255, 255, 255))
    someone = random_look(Random(1))
    return replace(
        someone,
        upper=plain,
        lower=Cloth("plain", (40, 40, 40), (0, 0, 0)),
        sleeves=plain.first,
        bag="none",
        hat="none",
        scarf=None,
        glasses=False,
        beard=False,
        hair_style="short",
        skin=(120, 160, 210),
        hair=(20, 20, 20),
        bag_colour=(10, 250, 10),
    )


def picture(look, view, step=30):
    return draw(person(look, view, step), (200.0, 200.0), (0.0, 0.0)).pixels.astype(int)


def count_near(pixels, colour, tolerance=12):
    near = (np.abs(pixels[..., :3] - np.array(colour)) <= tolerance).all(axis=-1)
    return int((near & (pixels[..., 3] == 255)).sum())


@pytest.mark.parametrize("view", VIEWS)
def test_stands_on_the_ground_and_is_about_one_unit_tall(look, view):
    for step in range(0, 360, 40):
        x1, y1, x2, y2 = extent(person(look, view, step))
        assert -1.06 < y1 < -0.9
        assert -0.03 < y2 < 0.10
        assert 0.2 < x2 - x1 < 0.75


def test_every_garment_can_be_drawn_from_every_side(look):
    for view in (0, 60, 130, 180, 300):
        for field, values in (
            ("top", TOPS),
            ("bottom", BOTTOMS),
            ("hair_style", HAIR_STYLES),
            ("bag", BAGS),
            ("hat", HATS),
        ):
            drawn = [picture(replace(look, **{field: value}), view) for value in values]
            assert all(pixels[..., 3].max() == 255 for pixels in drawn)


@pytest.mark.parametrize(
    ("field", "value"),
    [("top", "coat"), ("bottom", "skirt"), ("hat", "brim"), ("bag", "satchel"), ("build", 1.3)],
)
def test_what_a_person_wears_changes_the_picture(look, field, value):
    base = replace(look, top="tee", bottom="trousers", build=1.0)
    assert not np.array_equal(
        picture(base, 20)[:150, :40], picture(replace(base, **{field: value}), 20)[:150, :40]
    )


def test_backpack_shows_from_behind_and_hides_in_front(look):
    carrier = replace(look, bag="backpack")
    behind = count_near(picture(carrier, 180), carrier.bag_colour)
    front = count_near(picture(carrier, 0), carrier.bag_colour)
    assert behind > 500
    assert front < behind / 5


def test_face_shows_in_front_and_hair_from_behind(look):
    head = slice(0, 32)
    front, behind = picture(look, 0)[head], picture(look, 180)[head]
    assert count_near(front, look.skin) > 3 * count_near(behind, look.skin)
    assert count_near(behind, look.hair) > count_near(front, look.hair)


def test_walks_wider_across_the_picture_than_towards_it(look):
    across, towards = extent(person(look, 90, 90)), extent(person(look, 0, 90))
    assert across[2] - across[0] > 1.2 * (towards[2] - towards[0])


def test_opposite_sides_mirror_the_silhouette_of_a_plain_person(look):
    plain = replace(look, hair_style="bald")
    x1, y1, x2, y2 = extent(person(plain, 90, 0))
    assert (-x2, y1, -x1, y2) == pytest.approx(extent(person(plain, 270, 180)), abs=0.02)
