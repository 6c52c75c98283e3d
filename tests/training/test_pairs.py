"""The pair sampler: everyone has a partner, identities take turns, chance is the seed's."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sampled import batches

from personsearch.errors import DataError, RecipeError
from personsearch.training.pairs import PairSampler
from personsearch.types import Scene


def _scenes(people: list[list[int]]) -> list[Scene]:
    return [
        Scene(f"{k}.png", Path(f"{k}.png"), (20, 20), np.tile([0, 0, 9, 9], (len(ids), 1)), ids)  # type: ignore[arg-type]
        for k, ids in enumerate(people)
    ]


def _partners(people: list[list[int]], group: list[int]) -> list[int]:
    """For each picture of a group, how many others of it share an identity with it."""
    shown = [{i for i in people[p] if i >= 0} for p in group]
    return [sum(bool(a & b) for j, b in enumerate(shown) if j != i) for i, a in enumerate(shown)]


def _crowd() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [[*rng.choice(15, 3, replace=False).tolist(), -1] for _ in range(40)]


@pytest.mark.parametrize(("size", "group"), [(2, 2), (4, 2), (4, 4), (8, 8), (8, 4)])
def test_every_picture_shares_an_identity_with_another_of_its_group(size: int, group: int) -> None:
    people = _crowd()
    sampler = PairSampler(_scenes(people), size, 0, group)
    for batch in batches(sampler, 0, 60):
        assert len(set(batch)) == size
        for start in range(0, size, group):
            assert min(_partners(people, batch[start : start + group])) >= 1


def test_a_group_shows_one_identity_where_it_is_in_enough_pictures() -> None:
    people = [[k % 5, -1] for k in range(40)]
    for batch in batches(PairSampler(_scenes(people), 8, 0, 8), 0, 20):
        assert len({people[p][0] for p in batch}) == 1


def test_others_fill_a_group_two_by_two() -> None:
    people = [[0], [0], [0], [1], [1], [2], [2], [3]]
    for batch in batches(PairSampler(_scenes(people), 4, 0, 4), 0, 30):
        assert sorted(Counter(people[p][0] for p in batch).values()) == [2, 2]


def test_identities_lead_equally_often() -> None:
    # Identity 0 is in many more pictures than the others.
    people = [[0]] * 30 + [[1]] * 2 + [[2]] * 2 + [[3]] * 2 + [[4]]
    sampler = PairSampler(_scenes(people), 4, 1)
    leaders = Counter(
        people[batch[start]][0] for batch in batches(sampler, 0, 20) for start in (0, 2)
    )
    # With 40 groups in ten epochs of four; a second group of the batch may need other pictures.
    assert set(leaders) == {0, 1, 2, 3}
    assert max(leaders.values()) - min(leaders.values()) <= 4


def test_one_pair_a_batch_is_an_epoch_of_identities() -> None:
    people = [[k // 2] for k in range(14)]
    sampler = PairSampler(_scenes(people), 2, 3)
    for epoch in range(4):
        drawn = batches(sampler, 7 * epoch, 7 * epoch + 7)
        assert sorted(people[a][0] for a, _ in drawn) == list(range(7))
        assert all(people[a] == people[b] for a, b in drawn)


def test_a_batch_depends_on_seed_and_iteration_alone() -> None:
    scenes = _scenes(_crowd())
    forth = batches(PairSampler(scenes, 4, 1), 0, 30)
    used = PairSampler(scenes, 4, 1)
    assert [used.batch(i) for i in reversed(range(30))][::-1] == forth
    assert batches(PairSampler(scenes, 4, 1), 20, 30) == forth[20:]
    assert batches(PairSampler(scenes, 4, 2), 0, 30) != forth


def test_pictures_come_again_only_where_there_are_no_others() -> None:
    people = [[0], [0], [-1], [-1]]
    for batch in batches(PairSampler(_scenes(people), 4, 0), 0, 9):
        assert sorted(batch) == [0, 0, 1, 1]
    for batch in batches(PairSampler(_scenes(people), 4, 0, 4), 0, 9):
        assert sorted(batch) == [0, 0, 1, 1]


def test_no_identity_in_two_pictures_says_so() -> None:
    with pytest.raises(DataError, match=r"identity in two pictures.*sampler = 'random'"):
        PairSampler(_scenes([[0, 0], [1], [-1], [-1]]), 2, seed=0)


def test_a_batch_larger_than_the_data_says_so() -> None:
    with pytest.raises(DataError, match=r"batch of 4 pictures.*has 3; lower images_per_iteration"):
        PairSampler(_scenes([[0]] * 3), 4, seed=0)


@pytest.mark.parametrize(("size", "group"), [(3, 2), (6, 4), (6, 3), (4, 0), (4, 8)])
def test_groups_that_do_not_fill_the_batch_say_so(size: int, group: int) -> None:
    with pytest.raises(RecipeError, match=rf"groups of {group} pictures .* batches of {size}"):
        PairSampler(_scenes([[0]] * 9), size, 0, group)
