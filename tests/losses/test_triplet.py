"""The triplet loss against a slow float64 version written from its equation."""

import math

import pytest
import torch
from torch import Tensor

from personsearch.errors import TrainingError
from personsearch.losses.mining import batch_hard
from personsearch.losses.triplet import triplet_loss


def _slow(
    embeddings: list[list[float]], triplets: list[list[int]], margin: float, power: int = 1
) -> float:
    total = 0.0
    for a, p, n in triplets:
        near = math.dist(embeddings[a], embeddings[p]) ** power
        far = math.dist(embeddings[a], embeddings[n]) ** power
        total += max(0.0, near - far + margin)
    return total / len(triplets)


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(10, 4, generator=generator)
    return x, torch.randint(0, 10, (20, 3), generator=generator)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.3, 5.0])
def test_equals_the_equation(margin: float, squared: bool) -> None:
    x, triplets = _batch()
    expected = _slow(x.double().tolist(), triplets.tolist(), margin, 2 if squared else 1)
    value = float(triplet_loss(x, triplets, margin, squared))
    assert value == pytest.approx(expected, rel=1e-5)


def test_gradient_equals_central_differences() -> None:
    x, triplets = _batch()
    triplets = triplets[(triplets[:, 0] != triplets[:, 1]) & (triplets[:, 0] != triplets[:, 2])]
    leaf = x.clone().requires_grad_()
    triplet_loss(leaf, triplets, 0.5).backward()
    assert leaf.grad is not None
    points, step = x.double().tolist(), 1e-6
    for row in range(len(points)):
        for column in range(4):
            values = []
            for sign in (1, -1):
                moved = [list(p) for p in points]
                moved[row][column] += sign * step
                values.append(_slow(moved, triplets.tolist(), 0.5))
            slope = (values[0] - values[1]) / (2 * step)
            assert leaf.grad[row, column].item() == pytest.approx(slope, abs=1e-4)


def test_gradient_by_hand() -> None:
    """It pulls anchor and positive together and pushes the negative away, along unit vectors."""
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 2.0]], requires_grad=True)
    triplet_loss(x, torch.tensor([[0, 1, 2]]), 0.3).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[-1.0, 1.0], [1.0, 0.0], [0.0, -1.0]]


def test_equal_embeddings_have_a_finite_gradient() -> None:
    x = torch.ones(4, 3, requires_grad=True)
    value = triplet_loss(x, batch_hard(x, torch.tensor([0, 0, 1, 1])), 0.3)
    value.backward()
    assert value.item() == pytest.approx(0.3)
    assert x.grad is not None
    assert x.grad.tolist() == torch.zeros(4, 3).tolist()


def test_a_satisfied_triplet_counts_as_zero_in_the_mean() -> None:
    x = torch.tensor([[0.0], [1.0], [9.0], [1.1]])
    both = torch.tensor([[0, 1, 2], [0, 1, 3]])
    assert float(triplet_loss(x, both, 0.3)) == pytest.approx((0.0 + 0.2) / 2, abs=1e-6)


def test_no_triplets_is_a_zero_with_a_graph() -> None:
    for count in (0, 3):
        x = torch.randn(count, 2, requires_grad=True)
        value = triplet_loss(x, torch.zeros((0, 3), dtype=torch.int64), 0.3)
        value.backward()
        assert value.item() == 0.0
        assert x.grad is not None
        assert not x.grad.any()


def test_is_float32_under_autocast() -> None:
    x, triplets = _batch()
    expected = triplet_loss(x, triplets, 0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = triplet_loss(x, triplets, 0.3)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert triplet_loss(x.bfloat16(), triplets, 0.3).dtype == torch.float32


def test_another_shape_is_named() -> None:
    with pytest.raises(TrainingError, match=r"triplets have shape \(3,\), expected \(T, 3\)"):
        triplet_loss(torch.zeros(3, 2), torch.tensor([0, 1, 2]), 0.3)
