"""Random sampling softmax against eq. 2 written with loops, and the rules of its draw."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from personsearch.errors import TrainingError
from personsearch.losses.rss import random_sampling_softmax, sample_classes

C = 9


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, C + 1, generator=generator), torch.tensor([0, 3, -1, C, 3, 8, -1, C])


def _seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _slow(logits: list[list[float]], targets: list[int], drawn: list[list[int]]) -> float:
    """Eq. 2, given the indices of each sample that has a class."""
    losses = []
    rows = iter(drawn)
    for x, label in zip(logits, targets, strict=True):
        if label < 0:
            continue
        indices = next(rows)
        below = sum(math.exp(x[i]) for i in indices)
        losses.append(-sum((i == label) * math.log(math.exp(x[i]) / below) for i in indices))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("count", [2, 3, 6, C])
def test_equals_equation_2(count: int) -> None:
    logits, targets = _batch()
    drawn = sample_classes(targets[targets >= 0], C + 1, count, _seeded())
    value = random_sampling_softmax(logits, targets, count, _seeded())
    expected = _slow(logits.double().tolist(), targets.tolist(), drawn.tolist())
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [2, 5])
def test_the_gradient_stays_in_the_drawn_classes(count: int) -> None:
    """There it is y~ - t~, the derivative of a softmax loss; classes left out are not touched."""
    logits, targets = _batch()
    leaf = logits.clone().requires_grad_()
    random_sampling_softmax(leaf, targets, count, _seeded()).backward()
    known = targets >= 0
    drawn = sample_classes(targets[known], C + 1, count, _seeded())
    inside = logits[known].double().gather(1, drawn).softmax(dim=1)
    inside -= (drawn == targets[known][:, None]).double()
    expected = torch.zeros(8, C + 1, dtype=torch.float64)
    expected[known] = expected[known].scatter(1, drawn, inside / int(known.sum()))
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad.double(), expected, rtol=1e-5, atol=1e-7)
    assert (leaf.grad[known] != 0).sum(dim=1).tolist() == [count] * 6


@pytest.mark.parametrize("count", [C + 1, C + 2, 5000])
def test_over_all_classes_it_is_the_cross_entropy(count: int) -> None:
    logits, targets = _batch()
    value = random_sampling_softmax(logits, targets, count)
    expected = functional.cross_entropy(logits, targets, ignore_index=-1)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("count", [2, 3, 5, C])
def test_label_first_then_background_then_distinct_others(count: int) -> None:
    targets = torch.arange(C + 1).repeat(20)
    drawn = sample_classes(targets, C + 1, count, _seeded())
    assert drawn.shape == (len(targets), count)
    assert torch.equal(drawn[:, 0], targets)
    identity = targets != C
    assert (drawn[identity, 1] == C).all()
    assert all(len(set(row)) == count for row in drawn.tolist())
    assert not (drawn[~identity, 1:] == C).any()


@pytest.mark.parametrize("label", [2, C])
def test_the_others_are_drawn_uniformly(label: int) -> None:
    count, rows = 4, 6000
    drawn = sample_classes(torch.full((rows,), label), C + 1, count, _seeded())
    times = torch.bincount(drawn.flatten(), minlength=C + 1)
    assert times[label] == times[C] == rows
    others = [c for c in range(C) if c != label]
    places = count - (1 if label == C else 2)
    expected = rows * places / len(others)
    # Each is drawn or not in each row: five standard deviations of that.
    spread = 5 * math.sqrt(expected * (1 - expected / rows))
    assert all(abs(int(times[c]) - expected) < spread for c in others)


def test_each_sample_and_each_call_draws_its_own() -> None:
    targets = torch.zeros(50, dtype=torch.int64)
    drawn = sample_classes(targets, C + 1, 5, _seeded())
    assert len({tuple(sorted(row)) for row in drawn.tolist()}) > 10
    assert torch.equal(drawn, sample_classes(targets, C + 1, 5, _seeded()))
    assert not torch.equal(drawn, sample_classes(targets, C + 1, 5, _seeded(6)))
    logits, labels = _batch()
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(random_sampling_softmax(logits, labels, 4).item())
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("targets", [[], [-1, -1]])
def test_nobody_of_a_class_is_a_zero_with_a_graph(targets: list[int]) -> None:
    logits = torch.randn(len(targets), 5, requires_grad=True)
    value = random_sampling_softmax(logits, torch.tensor(targets, dtype=torch.int64), 3)
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_is_float32_under_autocast() -> None:
    logits, targets = _batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = random_sampling_softmax(logits, targets, 4, _seeded())
    assert value.dtype == torch.float32
    assert torch.equal(value, random_sampling_softmax(logits, targets, 4, _seeded()))
    half = random_sampling_softmax(logits.bfloat16(), targets, 4, _seeded())
    assert half.dtype == torch.float32


def test_fewer_than_two_classes_are_an_error() -> None:
    with pytest.raises(TrainingError, match="num_sampled is 1, expected at least 2"):
        random_sampling_softmax(*_batch(), num_sampled=1)
