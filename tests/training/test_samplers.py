"""Samplers are pure functions of seed and iteration, and fair."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sampled import batches

from personsearch.errors import DataError
from personsearch.training.samplers import IdentitySampler, RandomSampler, generator
from personsearch.types import Scene


def _scenes(people: list[list[int]]) -> list[Scene]:
    return [
        Scene(f"{k}.png", Path(f"{k}.png"), (20, 20), np.tile([0, 0, 9, 9], (len(ids), 1)), ids)  # type: ignore[arg-type]
        for k, ids in enumerate(people)
    ]


def test_generator_depends_on_its_numbers_alone() -> None:
    draws = {s: generator(*s).integers(2**62) for s in [(0, 1), (0, 2), (1, 1), (0, 1, 0), (0,)]}
    assert len(set(draws.values())) == len(draws) - 1  # a trailing zero names the same stream
    assert generator(0, 1).integers(2**62) == draws[0, 1]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_every_picture_once_an_epoch(size: int) -> None:
    sampler = RandomSampler(_scenes([[]] * 7), size, seed=4)
    order = [index for batch in batches(sampler, 0, 7 * 3) for index in batch]
    for epoch in range(3 * size):
        assert sorted(order[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert len({tuple(order[7 * e : 7 * e + 7]) for e in range(3 * size)}) > 1


@pytest.mark.parametrize("kind", [RandomSampler, IdentitySampler])
def test_a_batch_depends_on_seed_and_iteration_alone(
    kind: type[RandomSampler] | type[IdentitySampler],
) -> None:
    scenes = _scenes([[k % 4, -1] for k in range(12)])
    forth = batches(kind(scenes, 5, seed=1), 0, 9)
    used = kind(scenes, 5, seed=1)
    back = [used.batch(i) for i in reversed(range(9))][::-1]
    assert forth == back
    assert batches(kind(scenes, 5, seed=1), 6, 9) == forth[6:]
    assert batches(kind(scenes, 5, seed=2), 0, 9) != forth
    assert all(len(batch) == 5 for batch in forth)


@pytest.mark.parametrize("kind", [RandomSampler, IdentitySampler])
def test_a_batch_larger_than_the_data_says_so(
    kind: type[RandomSampler] | type[IdentitySampler],
) -> None:
    with pytest.raises(DataError, match=r"batch of 4 pictures.*has 3; lower images_per_iteration"):
        kind(_scenes([[0]] * 3), 4, seed=0)


def test_identities_repeat_in_a_batch_and_are_drawn_equally_often() -> None:
    # Identity 0 is in many more pictures than the others.
    people = [[0]] * 30 + [[1]] * 3 + [[2]] * 3 + [[3]] * 3
    sampler = IdentitySampler(_scenes(people), 4, seed=0)
    seen: Counter[int] = Counter()
    for batch in batches(sampler, 0, 400):
        assert len(set(batch)) == 4
        counts = Counter(people[index][0] for index in batch)
        assert sorted(counts.values()) == [2, 2]
        seen.update(counts.keys())
    assert max(seen.values()) < 1.3 * min(seen.values())


def test_short_batches_are_filled_with_other_pictures() -> None:
    people = [[0], [0], [-1], [-1], [1], []]
    for batch in batches(IdentitySampler(_scenes(people), 5, seed=0), 0, 20):
        assert len(set(batch)) == 5
        assert {0, 1} <= set(batch)


def test_more_pictures_an_identity() -> None:
    people = [[k // 4] for k in range(16)]
    for batch in batches(IdentitySampler(_scenes(people), 8, 0, pictures_per_identity=4), 0, 20):
        assert sorted(Counter(i // 4 for i in batch).values()) == [4, 4]


def test_no_identity_in_two_pictures_says_so() -> None:
    with pytest.raises(DataError, match=r"identity in two pictures.*sampler = 'random'"):
        IdentitySampler(_scenes([[0, 0], [1], [-1], [-1]]), 2, seed=0)
