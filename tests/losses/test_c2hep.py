"""C2HEP against eq. 8 and eq. 9 written with loops, and the memory of centers against eq. 7."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from personsearch.losses.c2hep import ClassCenters, class_center_hep_loss


def _cosine(a: list[float], b: list[float]) -> float:
    length = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0


def _slow(
    x: list[list[float]], targets: list[int], centers: list[list[float]], pool: list[int], s: float
) -> float:
    total, n = 0.0, 0
    for row, label in zip(x, targets, strict=True):
        if label < 0:
            continue
        n += 1
        below = sum(math.exp(s * _cosine(row, centers[c])) for c in pool)
        for j in pool:
            if label == j:
                total -= math.log(math.exp(s * _cosine(row, centers[j])) / below)  # eq. 8
    return total / n


TARGETS = torch.tensor([0, 3, -1, 4, 3, 1])


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(6, 4, generator=generator), dim=1)
    centers = torch.randn(5, 4, generator=generator)
    centers[1] = 0.0  # never seen
    return embeddings, centers


@pytest.mark.parametrize("scale", [10.0, 1.0])
@pytest.mark.parametrize("pool", [[0, 1, 2, 3, 4], [4, 3, 1, 0], [2, 3], [2]])
def test_equals_equation_9(pool: list[int], scale: float) -> None:
    embeddings, centers = _batch()
    value = class_center_hep_loss(embeddings, TARGETS, centers, torch.tensor(pool), scale)
    expected = _slow(
        embeddings.double().tolist(), TARGETS.tolist(), centers.double().tolist(), pool, scale
    )
    assert value.item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_gradient_equals_central_differences_and_leaves_the_centers() -> None:
    embeddings, centers = _batch()
    centers.requires_grad_()
    pool = [4, 3, 1, 0]
    leaf = embeddings.clone().requires_grad_()
    class_center_hep_loss(leaf, TARGETS, centers, torch.tensor(pool)).backward()
    assert leaf.grad is not None
    assert centers.grad is None
    points, around = embeddings.double().tolist(), centers.detach().double().tolist()
    for row in range(6):
        for column in range(4):
            values = []
            for step in (1e-6, -1e-6):
                moved = [list(p) for p in points]
                moved[row][column] += step
                values.append(_slow(moved, TARGETS.tolist(), around, pool, 10.0))
            slope = (values[0] - values[1]) / 2e-6
            assert leaf.grad[row, column].item() == pytest.approx(slope, abs=1e-5)


def test_the_length_of_a_center_does_not_matter() -> None:
    embeddings, centers = _batch()
    pool = torch.arange(5)
    value = class_center_hep_loss(embeddings, TARGETS, centers, pool)
    torch.testing.assert_close(
        class_center_hep_loss(embeddings, TARGETS, centers * 7.0, pool), value
    )


@pytest.mark.parametrize("targets", [[], [-1, -1]])
def test_nobody_labelled_is_a_zero_with_a_graph(targets: list[int]) -> None:
    x = torch.randn(len(targets), 4, requires_grad=True)
    ids = torch.tensor(targets, dtype=torch.int64)
    value = class_center_hep_loss(x, ids, torch.randn(3, 4), torch.tensor([0, 2]))
    value.backward()
    assert value.item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


def test_centers_move_as_in_equation_7_one_sample_after_the_other() -> None:
    torch.manual_seed(1)
    centers = ClassCenters(4, 3, momentum=0.25)
    expected = torch.zeros(4, 3, dtype=torch.float64)
    for _ in range(3):
        x, ids = torch.randn(6, 3), torch.tensor([2, 0, -1, 2, 0, 3])
        for row, j in zip(x.double(), ids.tolist(), strict=True):
            if j >= 0:
                expected[j] = 0.25 * expected[j] + 0.75 * row
        centers.update(x, ids)
    torch.testing.assert_close(centers.values.double(), expected, atol=1e-6, rtol=1e-5)
    assert not centers.values[1].any()


def test_momentum_is_one_half() -> None:
    centers = ClassCenters(1, 2)
    centers.update(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    assert centers.values.tolist() == [[0.25, 0.5]]


def test_centers_are_saved_and_keep_no_graph() -> None:
    centers, copy = ClassCenters(2, 2), ClassCenters(2, 2)
    centers.update(torch.eye(2, dtype=torch.bfloat16, requires_grad=True), torch.tensor([0, 1]))
    assert not centers.values.requires_grad
    assert centers.values.dtype == torch.float32
    copy.load_state_dict(centers.state_dict())
    assert torch.equal(copy.values, centers.values)


def test_is_float32_under_autocast() -> None:
    embeddings, centers = _batch()
    pool = torch.tensor([0, 3, 4])
    expected = class_center_hep_loss(embeddings, TARGETS, centers, pool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = class_center_hep_loss(embeddings, TARGETS, centers, pool)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    half = class_center_hep_loss(embeddings.bfloat16(), TARGETS, centers, pool)
    assert half.dtype == torch.float32
