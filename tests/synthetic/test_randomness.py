from collections import Counter

import numpy as np

from personsearch.synthetic.randomness import Random


def test_equal_seeds_give_equal_numbers_and_every_seed_counts():
    assert Random(3, 4).random() == Random(3, 4).random()
    assert len({Random(*seeds).random() for seeds in ((3, 4), (4, 3), (3,), (3, 5))}) == 4


def test_whole_numbers_and_hundredths_fill_their_range():
    rng = Random(0)
    assert {rng.randrange(-2, 3) for _ in range(200)} == {-2, -1, 0, 1, 2}
    assert {rng.hundredths(7, 10) for _ in range(100)} == {0.07, 0.08, 0.09}


def test_events_happen_as_often_as_asked():
    rng = Random(1)
    assert abs(np.mean([rng.happens(30) for _ in range(2000)]) - 0.3) < 0.04
    assert not any(rng.happens(0) for _ in range(100))
    assert all(rng.happens(100) for _ in range(100))


def test_values_are_picked_evenly_and_shuffled_without_loss():
    rng = Random(2)
    counts = Counter(rng.pick("abc") for _ in range(3000))
    assert max(counts.values()) - min(counts.values()) < 200
    shuffled = [rng.shuffled(range(5)) for _ in range(50)]
    assert all(sorted(values) == [0, 1, 2, 3, 4] for values in shuffled)
    assert len(set(map(tuple, shuffled))) > 30


def test_colours_lie_in_their_range_and_tints_keep_the_hue():
    rng = Random(3)
    colours = np.array([rng.colour(40, 60) for _ in range(200)])
    assert (colours.min(), colours.max()) == (40, 59)
    assert {rng.tint((100, 50, 0), 80, 82) for _ in range(50)} == {(80, 40, 0), (81, 40, 0)}
