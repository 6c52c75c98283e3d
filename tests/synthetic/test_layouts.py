from collections import Counter
from types import SimpleNamespace

import pytest

from personsearch.synthetic.layouts import Deck, cover, furnish, spread, stand
from personsearch.synthetic.optics import make_cameras
from personsearch.synthetic.randomness import Random
from personsearch.synthetic.streets import FURNITURE, PLACES
from personsearch.synthetic.tattoos import STRAPS

LOOK = SimpleNamespace(stature=1.0)


@pytest.fixture(params=range(4))
def camera(request):
    return make_cameras(4, (640, 480), PLACES, 9)[request.param]


def test_deck_deals_everyone_equally_often_and_nobody_twice_at_once():
    deck, tally = Deck(range(10), Random(0)), Counter()
    for _ in range(50):
        hand = deck.deal(4)
        assert len(set(hand)) == len(hand) == 4
        tally.update(hand)
    assert set(tally.values()) == {20} or max(tally.values()) - min(tally.values()) <= 2


def test_deck_of_few_deals_what_it_has():
    assert sorted(Deck([3, 5], Random(0)).deal(9)) == [3, 5]
    assert Deck([], Random(0)).deal(2) == []


def test_people_stand_on_the_ground_in_perspective(camera):
    for seed in range(20):
        placed = stand(camera, [(k, LOOK) for k in range(6)], Random(seed))
        assert len(placed) >= 4
        for person in placed:
            assert camera.far * 480 - 7 <= person.foot <= camera.near * 480 + 7
            assert person.unit == pytest.approx(camera.unit(person.foot))
            assert -0.05 * 640 <= person.x <= 1.05 * 640


def test_placement_follows_the_seed(camera):
    people = [(k, LOOK) for k in range(5)]
    assert stand(camera, people, Random(1)) == stand(camera, people, Random(1))
    assert stand(camera, people, Random(1)) != stand(camera, people, Random(2))


def test_some_furniture_always_stands_there(camera):
    usual = [furnish(camera, [], Random(seed))[:3] for seed in range(5)]
    assert all(props == usual[0] for props in usual)
    assert {prop.kind for prop in usual[0]} <= set(FURNITURE[camera.place])


def test_spread_things_do_not_meet(camera):
    placed = spread(camera, [(k, LOOK) for k in range(9)], Random(3))
    assert len(placed) == 6
    for a in placed:
        for b in placed:
            if a is not b:
                apart = max(abs(a.x - b.x), abs(a.foot - b.foot))
                assert apart > 40
    props = [prop for seed in range(9) for prop in cover(camera, placed, Random(seed))]
    assert 5 < len(props) < 40
    assert {prop.kind for prop in props} <= set(STRAPS)
