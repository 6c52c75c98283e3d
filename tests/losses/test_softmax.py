"""The softmax loss against eq. 1 written with loops."""

import math

import pytest
import torch
from torch import Tensor

from personsearch.losses.softmax import softmax_loss


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 6, generator=generator), torch.tensor([0, 5, -1, 3, 5, 2, -1])


def _slow(logits: list[list[float]], targets: list[int]) -> float:
    losses = [
        -math.log(math.exp(x[t]) / sum(math.exp(s) for s in x))
        for x, t in zip(logits, targets, strict=True)
        if t >= 0
    ]
    return sum(losses) / len(targets)


def test_equals_equation_1() -> None:
    logits, targets = _batch()
    expected = _slow(logits.double().tolist(), targets.tolist())
    assert softmax_loss(logits, targets).item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_is_what_is_said_less_what_is_true() -> None:
    logits, targets = _batch()
    leaf = logits.clone().requires_grad_()
    softmax_loss(leaf, targets).backward()
    expected = logits.double().softmax(dim=1)
    expected[range(7), targets.clamp(min=0)] -= 1.0
    expected[targets < 0] = 0.0
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad.double(), expected / 7, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("targets", [[], [-1, -1]])
def test_nobody_of_a_class_is_a_zero_with_a_graph(targets: list[int]) -> None:
    logits = torch.randn(len(targets), 4, requires_grad=True)
    value = softmax_loss(logits, torch.tensor(targets, dtype=torch.int64))
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_is_float32_under_autocast() -> None:
    logits, targets = _batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = softmax_loss(logits, targets)
    assert value.dtype == torch.float32
    assert torch.equal(value, softmax_loss(logits, targets))
    assert softmax_loss(logits.bfloat16(), targets).dtype == torch.float32
