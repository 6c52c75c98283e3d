import numpy as np
import pytest

from personsearch.synthetic.randomness import Random
from personsearch.synthetic.wardrobe import (
    BROAD,
    SPARSE,
    Cloth,
    Draped,
    look_group,
)


def drape(pattern, view, count=4):
    cloth = Cloth(pattern, (0, 0, 0), (255, 255, 255), count)
    texture = Draped(cloth, half_width=1.0, top=0.0, bottom=1.0, view=view)
    return texture(np.linspace(-0.98, 0.98, 99), np.linspace(0.005, 0.995, 100))[..., 0] > 0


def test_look_alikes_share_colours_but_neither_pattern_nor_person():
    for seed in range(30):
        group = look_group((3,), Random(seed))
        first = group[0]
        assert len({look.upper.pattern for look in group}) == 4
        for other in group[1:]:
            assert (other.upper.first, other.upper.second) == (
                first.upper.first,
                first.upper.second,
            )
            assert other.lower == first.lower
            assert other.bag_colour == first.bag_colour


@pytest.mark.parametrize("pattern", BROAD)
def test_broad_patterns_are_about_half_the_second_colour(pattern):
    shares = [drape(pattern, view).mean() for view in (0, 90, 180, 270)]
    assert 0.3 < np.mean(shares) < 0.7


@pytest.mark.parametrize("pattern", SPARSE)
def test_sparse_patterns_have_some_of_the_second_colour_and_less_than_half(pattern):
    shares = [drape(pattern, view).mean() for view in range(0, 360, 30)]
    assert 0.01 < np.mean(shares) < 0.5


def test_every_pattern_looks_different_from_the_front():
    seen = {drape(pattern, 0).tobytes() for pattern in ("plain", *BROAD, *SPARSE)}
    assert len(seen) == 1 + len(BROAD) + len(SPARSE)


def test_a_badge_is_in_front_and_hidden_from_behind():
    assert drape("badge", 0).any()
    assert not drape("badge", 180).any()


def test_halves_swap_sides_when_the_person_turns_round():
    front, back = drape("halves", 0), drape("halves", 180)
    assert front[:, 60:].all()
    assert not front[:, :40].any()
    assert back[:, :40].all()
    assert not back[:, 60:].any()
