"""Hard example priority against eq. 5 written with loops, and the protocol of its pool."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from personsearch.losses.hep import (
    hard_example_priority_loss,
    hardest_labels,
    select_priority_classes,
)


def _slow(logits: list[list[float]], targets: list[int], pool: list[int]) -> float:
    """Eq. 5; n counts the labelled."""
    total, n = 0.0, 0
    for scores, label in zip(logits, targets, strict=True):
        if label < 0:
            continue
        n += 1
        for j in pool:
            if label == j:
                below = sum(math.exp(scores[t]) for t in pool)
                total -= math.log(math.exp(scores[j]) / below)
    return total / n


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 7, generator=generator), torch.tensor([0, 3, -1, 6, 3, 5, -1, 2])


POOLS = {
    "everything": [0, 1, 2, 3, 4, 5, 6],
    "every label, any order": [6, 3, 0, 5, 2],
    "some labels are outside": [3, 1, 6],
    "no label is inside": [1, 4],
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_equals_equation_5(pool: list[int]) -> None:
    logits, targets = _batch()
    value = hard_example_priority_loss(logits, targets, torch.tensor(pool))
    expected = _slow(logits.double().tolist(), targets.tolist(), pool)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_over_all_classes_it_is_the_softmax_loss() -> None:
    logits, targets = _batch()
    value = hard_example_priority_loss(logits, targets, torch.arange(7))
    torch.testing.assert_close(value, functional.cross_entropy(logits, targets, ignore_index=-1))


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_gradient_equals_central_differences(pool: list[int]) -> None:
    logits, targets = _batch()
    leaf = logits.clone().requires_grad_()
    hard_example_priority_loss(leaf, targets, torch.tensor(pool)).backward()
    assert leaf.grad is not None
    scores, step = logits.double().tolist(), 1e-6
    for row in range(8):
        for column in range(7):
            values = []
            for sign in (1, -1):
                moved = [list(s) for s in scores]
                moved[row][column] += sign * step
                values.append(_slow(moved, targets.tolist(), pool))
            slope = (values[0] - values[1]) / (2 * step)
            assert leaf.grad[row, column].item() == pytest.approx(slope, abs=1e-6)
    outside = [c for c in range(7) if c not in pool]
    assert not leaf.grad[:, outside].any()


@pytest.mark.parametrize("targets", [[], [-1, -1]])
def test_nobody_labelled_is_a_zero_with_a_graph(targets: list[int]) -> None:
    logits = torch.randn(len(targets), 4, requires_grad=True)
    ids = torch.tensor(targets, dtype=torch.int64)
    value = hard_example_priority_loss(logits, ids, torch.tensor([0, 2]))
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_is_float32_under_autocast() -> None:
    logits, targets = _batch()
    pool = torch.tensor([0, 3, 5])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = hard_example_priority_loss(logits, targets, pool)
    assert value.dtype == torch.float32
    assert torch.equal(value, hard_example_priority_loss(logits, targets, pool))
    assert hard_example_priority_loss(logits.bfloat16(), targets, pool).dtype == torch.float32


def _pool(labels: list[int], hard: list[int], num_classes: int, count: int) -> list[int]:
    present, hardest = (torch.tensor(x, dtype=torch.int64) for x in (labels, hard))
    pool = select_priority_classes(present, hardest, num_classes, count)
    assert pool.dtype == torch.int64
    return pool.tolist()


def test_the_pool_is_what_is_present_then_what_is_hard_then_chance() -> None:
    torch.manual_seed(0)
    for count in (6, 7, 20, 99):
        pool = _pool([4, 9, -1, 4], [-1, 30, 9, 11, 30, -1, 2], 100, count)
        assert pool[:5] == [4, 9, 30, 11, 2]
        assert len(pool) == len(set(pool)) == count
        assert set(pool) <= set(range(100))


def test_random_classes_fill_the_pool_evenly_and_by_the_generator() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    counts = torch.zeros(10)
    for seed in range(300):
        one, two = (
            select_priority_classes(none, none, 10, 4, torch.Generator().manual_seed(seed))
            for _ in range(2)
        )
        assert torch.equal(one, two)
        counts[one] += 1
    assert counts.min() > 90
    assert counts.max() < 150


def test_every_class_present_is_in_a_pool_that_is_too_small() -> None:
    for count in (0, 1, 3):
        assert sorted(_pool([95, 1, -1, 63, 1], [7, 8], 100, count)) == [1, 63, 95]
    assert sorted(_pool([95, 1, 63], [7, 8], 100, 4)) == [1, 7, 63, 95]


@pytest.mark.parametrize("count", [10, 11, 5000])
def test_where_there_are_fewer_classes_all_are_in_the_pool(count: int) -> None:
    assert _pool([5], [7, -1], 10, count) == list(range(10))


def test_nobody_at_all_still_has_a_pool() -> None:
    assert len(_pool([], [], 10, 3)) == 3


def test_hardest_are_the_most_similar_valid_negatives() -> None:
    # Cosines with the first anchor fall with the row, with the second they rise.
    angles = torch.linspace(0.0, math.pi / 2, 6)
    negatives = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([8, 3, -1, 5, 3, 2])
    valid = torch.ones(2, 6, dtype=torch.bool)
    found = hardest_labels(torch.eye(2), negatives, labels, valid, 2)
    assert found.tolist() == [8, 2, 3, 3]  # the hardest of each anchor come first
    valid[0, :2] = False
    assert hardest_labels(torch.eye(2)[:1], negatives, labels, valid[:1], 2).tolist() == [-1, 5]


def test_fewer_negatives_than_asked() -> None:
    valid = torch.tensor([[True, False, True]])
    labels, negatives = torch.tensor([4, 5, 6]), torch.eye(3)
    assert hardest_labels(torch.eye(3)[:1], negatives, labels, valid, 10).tolist() == [4, 6]
    none = torch.zeros(1, 3, dtype=torch.bool)
    assert hardest_labels(torch.eye(3)[:1], negatives, labels, none, 10).tolist() == []
    assert hardest_labels(torch.zeros(0, 3), negatives, labels, valid[:0], 2).tolist() == []
    empty = hardest_labels(torch.eye(3), negatives[:0], labels[:0], torch.ones(3, 0).bool(), 2)
    assert empty.tolist() == []
