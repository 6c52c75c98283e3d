"""Random sampling softmax against the published layer written with loops, and its draw."""

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


def _published(
    logits: list[list[float]], targets: list[int], shuffled: list[list[int]], count: int
) -> tuple[float, list[list[float]]]:
    """Loss and gradient by the rules of the authors' Caffe layer, one number at a time.

    Their order: the label, the background unless it is the label, then the shuffled classes that
    are neither, up to K. Unlabelled samples are skipped. The loss is clipped where a probability
    is no float32, and the sum is divided by the number of all samples (`normalize: false`).
    """
    background = len(logits[0]) - 1
    loss, gradients = 0.0, [[0.0] * len(x) for x in logits]
    for x, label, order, gradient in zip(logits, targets, shuffled, gradients, strict=True):
        if label == -1:
            continue
        chosen = [label] if label == background else [label, background]
        for index in order:
            if len(chosen) >= count:
                break
            if index not in (label, background):
                chosen.append(index)
        largest = max(x[i] for i in chosen)
        powers = [math.exp(x[i] - largest) for i in chosen]
        probabilities = [power / sum(powers) for power in powers]
        loss -= math.log(max(probabilities[0], 2.0**-126))
        for index, probability in zip(chosen, probabilities, strict=True):
            gradient[index] = probability
        gradient[label] -= 1.0
    total = max(1.0, len(targets))
    return loss / total, [[g / total for g in row] for row in gradients]


@pytest.mark.parametrize("count", [2, 3, 6, C])
def test_equals_the_published_layer_with_the_same_draws(count: int) -> None:
    logits, targets = _batch()
    leaf = logits.clone().requires_grad_()
    value = random_sampling_softmax(leaf, targets, count, _seeded())
    value.backward()
    drawn = sample_classes(targets.clamp(min=0), C + 1, count, _seeded()).tolist()
    # A shuffle that begins with what was drawn.
    shuffled = [row + [i for i in range(C + 1) if i not in row] for row in drawn]
    loss, gradient = _published(logits.double().tolist(), targets.tolist(), shuffled, count)
    assert value.item() == pytest.approx(loss, rel=1e-6)
    assert leaf.grad is not None
    torch.testing.assert_close(
        leaf.grad.double(), torch.tensor(gradient, dtype=torch.float64), rtol=1e-5, atol=1e-7
    )


def test_numbers_by_hand() -> None:
    """Equal scores: log K each, over three samples of which one has no class."""
    value = random_sampling_softmax(torch.zeros(3, 50), torch.tensor([4, -1, 49]), 10)
    assert value.item() == pytest.approx(2 * math.log(10) / 3)
    # K = 2, label and background: a difference of log 3 in their scores is a chance of 3 / 4.
    logits = torch.zeros(1, 50)
    logits[0, 4] = math.log(3)
    leaf = logits.requires_grad_()
    value = random_sampling_softmax(leaf, torch.tensor([4]), 2)
    value.backward()
    assert value.item() == pytest.approx(math.log(4 / 3))
    assert leaf.grad is not None
    assert leaf.grad[0, [4, 49]].tolist() == pytest.approx([-0.25, 0.25])
    assert leaf.grad.count_nonzero() == 2


@pytest.mark.parametrize("count", [C + 1, C + 2, 5000])
def test_over_all_classes_it_is_the_cross_entropy(count: int) -> None:
    logits, targets = _batch()
    value = random_sampling_softmax(logits, targets, count)
    expected = functional.cross_entropy(logits, targets, ignore_index=-1, reduction="sum") / 8
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
