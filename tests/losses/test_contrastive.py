"""The contrastive loss against a slow float64 version written from its equation."""

import math

import pytest
import torch
from torch import Tensor

from personsearch.errors import TrainingError
from personsearch.losses.contrastive import contrastive_loss

IDS = torch.tensor([0, 0, 1, -1, 2, -1, 1])


def _slow(
    x: list[list[float]], ids: list[int], margin: float, pictures: list[int] | None = None
) -> float:
    terms = []
    for i in range(len(x)):
        for j in range(i):
            if ids[i] < 0 and ids[j] < 0:
                continue
            if pictures and ids[i] == ids[j] and pictures[i] == pictures[j]:
                continue
            d = math.dist(x[i], x[j])
            terms.append(0.5 * d**2 if ids[i] == ids[j] else 0.5 * max(0.0, margin - d) ** 2)
    return sum(terms) / len(terms)


def _points() -> Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("margin", [0.0, 1.0, 3.0])
def test_equals_the_equation(margin: float) -> None:
    x = _points()
    expected = _slow(x.double().tolist(), IDS.tolist(), margin)
    assert contrastive_loss(x, IDS, margin).item() == pytest.approx(expected, rel=1e-5)


def test_given_pictures_pairs_of_one_identity_are_in_two_of_them() -> None:
    x = _points()
    for pictures in ([0, 0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1, 0]):
        expected = _slow(x.double().tolist(), IDS.tolist(), 1.0, pictures)
        value = contrastive_loss(x, IDS, 1.0, torch.tensor(pictures))
        assert value.item() == pytest.approx(expected, rel=1e-5)


def test_gradient_equals_central_differences() -> None:
    x = _points()
    leaf = x.clone().requires_grad_()
    contrastive_loss(leaf, IDS, 2.0).backward()
    assert leaf.grad is not None
    points = x.double().tolist()
    for row in range(7):
        for column in range(3):
            values = []
            for step in (1e-6, -1e-6):
                moved = [list(p) for p in points]
                moved[row][column] += step
                values.append(_slow(moved, IDS.tolist(), 2.0))
            slope = (values[0] - values[1]) / 2e-6
            assert leaf.grad[row, column].item() == pytest.approx(slope, abs=1e-5)


def test_equal_embeddings_have_a_finite_gradient() -> None:
    x = torch.ones(4, 3, requires_grad=True)
    value = contrastive_loss(x, torch.tensor([0, 0, 1, 1]), 1.0)
    value.backward()
    assert value.item() == pytest.approx(4 / 6 * 0.5)
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("ids", [[], [3], [-1, -1]])
def test_no_pairs_are_a_zero_with_a_graph(ids: list[int]) -> None:
    x = torch.randn(len(ids), 2, requires_grad=True)
    value = contrastive_loss(x, torch.tensor(ids, dtype=torch.int64))
    value.backward()
    assert value.item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


def test_is_float32_under_autocast() -> None:
    x = _points()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = contrastive_loss(x, IDS)
    assert value.dtype == torch.float32
    assert torch.equal(value, contrastive_loss(x, IDS))
    assert contrastive_loss(x.bfloat16(), IDS).dtype == torch.float32


def test_shapes_that_disagree_are_named() -> None:
    with pytest.raises(TrainingError, match=r"shape \(2, 3\) and ids \(3,\)"):
        contrastive_loss(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))
