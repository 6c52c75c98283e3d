"""Online pairing against eq. 1 written with loops, its gradient against the paper's own eq. 2."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from personsearch.losses.olp import online_pairing_loss, paired_rows_loss, pairs_across_pictures


def _unit(*shape: int) -> Tensor:
    return functional.normalize(torch.randn(*shape), dim=-1)


def _cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _shares(
    anchor: list[float], positive: list[float], negatives: list[list[float]], scale: float = 1.0
) -> tuple[float, list[float]]:
    """q (eq. 3) and q' of each negative (eq. 4)."""
    near = math.exp(scale * _cosine(anchor, positive))
    far = [math.exp(scale * _cosine(anchor, n)) for n in negatives]
    return near / (near + sum(far)), [f / (near + sum(far)) for f in far]


def _slow(
    anchors: Tensor, positives: Tensor, negatives: Tensor, scale: float = 1.0
) -> tuple[float, list[list[float]]]:
    """The loss (eq. 1), and its derivative in each anchor (eq. 2, over m)."""
    total, gradients, m = 0.0, [], len(anchors)
    for i in range(m):
        a, p = anchors[i].double().tolist(), positives[i].double().tolist()
        own = negatives[i] if negatives.ndim == 3 else negatives
        ns = own.double().tolist()
        q, shares = _shares(a, p, ns, scale)
        total -= math.log(q)
        gradient = [(q - 1) * x for x in p]
        for share, n in zip(shares, ns, strict=True):
            gradient = [g + share * x for g, x in zip(gradient, n, strict=True)]
        gradients.append([scale * g / m for g in gradient])
    return total / m, gradients


@pytest.mark.parametrize("scale", [1.0, 16.0])
@pytest.mark.parametrize("shape", [(7, 5), (6, 4, 5), (1, 5), (6, 1, 5)])
def test_equals_equations_1_and_2(shape: tuple[int, ...], scale: float) -> None:
    torch.manual_seed(0)
    anchors, positives = _unit(6, 5).requires_grad_(), _unit(6, 5).requires_grad_()
    negatives = _unit(*shape).requires_grad_()
    value = online_pairing_loss(anchors, positives, negatives, scale=scale)
    value.backward()
    expected, gradients = _slow(anchors.detach(), positives.detach(), negatives.detach(), scale)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert anchors.grad is not None
    torch.testing.assert_close(anchors.grad, torch.tensor(gradients))
    # "We only calculate the deviation with respect to the anchor."
    assert positives.grad is None
    assert negatives.grad is None


def test_equation_2_is_the_derivative_of_equation_1() -> None:
    torch.manual_seed(1)
    anchors, positives, negatives = _unit(3, 4).double(), _unit(3, 4), _unit(5, 4)
    _, gradients = _slow(anchors, positives, negatives)
    for row in range(3):
        for column in range(4):
            values = []
            for step in (1e-6, -1e-6):
                moved = anchors.clone()
                moved[row, column] += step
                values.append(_slow(moved, positives, negatives)[0])
            assert gradients[row][column] == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-8)


def test_by_hand() -> None:
    """Every cosine 0: the positive is one of K + 1 equals."""
    x = torch.eye(6, requires_grad=True)
    value = online_pairing_loss(x[:1], x[1:2], x[2:])
    value.backward()
    assert value.item() == pytest.approx(math.log(5))
    assert x.grad is not None
    assert x.grad[0].tolist() == pytest.approx([0, -0.8, 0.2, 0.2, 0.2, 0.2])
    assert not x.grad[1:].any()


def test_only_valid_negatives_count() -> None:
    torch.manual_seed(2)
    anchors, positives, negatives = _unit(4, 3), _unit(4, 3), _unit(6, 3)
    valid = torch.rand(4, 6) < 0.5
    valid[0], valid[1] = True, False
    value = online_pairing_loss(anchors, positives, negatives, valid)
    terms = [
        _slow(anchors[i : i + 1], positives[i : i + 1], negatives[valid[i]])[0] for i in range(4)
    ]
    assert terms[1] == 0
    assert value.item() == pytest.approx(sum(terms) / 4, rel=1e-5)


@pytest.mark.parametrize(("anchors", "negatives"), [(0, 4), (3, 0), (0, 0)])
@pytest.mark.parametrize("dims", [2, 3])
def test_nobody_to_compare_with_is_a_zero_with_a_graph(
    anchors: int, negatives: int, dims: int
) -> None:
    x = torch.randn(anchors, 2, requires_grad=True)
    shape = (negatives, 2) if dims == 2 else (anchors, negatives, 2)
    value = online_pairing_loss(x, torch.randn(anchors, 2), torch.randn(shape))
    value.backward()
    assert value.item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


def test_masking_every_negative_leaves_no_nan() -> None:
    x = _unit(3, 2).requires_grad_()
    value = online_pairing_loss(x, _unit(3, 2), _unit(4, 2), torch.zeros(3, 4, dtype=torch.bool))
    value.backward()
    assert value.item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


def test_pairs_are_of_one_identity_in_two_pictures_both_ways_round() -> None:
    ids = torch.tensor([3, 3, 5, -1, 3, 5, -1, 7])
    pictures = torch.tensor([0, 0, 0, 0, 1, 2, 1, 2])
    anchors, positives = pairs_across_pictures(ids, pictures)
    assert list(zip(anchors.tolist(), positives.tolist(), strict=True)) == [
        (0, 4),
        (1, 4),
        (2, 5),
        (4, 0),
        (4, 1),
        (5, 2),
    ]
    assert [len(p) for p in pairs_across_pictures(ids[:0], pictures[:0])] == [0, 0]


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_rows_of_a_batch_are_compared_with_their_negatives_once(scale: float) -> None:
    torch.manual_seed(3)
    x, y = _unit(8, 5).requires_grad_(), None
    negatives, valid = _unit(9, 5), torch.rand(8, 9) < 0.6
    pairs = pairs_across_pictures(torch.tensor([0, 0, 1, 2, 0, 0, 1, -1]), torch.arange(8) // 4)
    value = paired_rows_loss(x, pairs, negatives, valid, scale)
    value.backward()
    y = x.detach().clone().requires_grad_()
    anchors, positives = pairs
    same = online_pairing_loss(y[anchors], y[positives], negatives, valid[anchors], scale)
    same.backward()
    assert value.item() == pytest.approx(same.item(), rel=1e-6)
    assert x.grad is not None
    assert y.grad is not None
    torch.testing.assert_close(x.grad, y.grad)
    assert not x.grad[[3, 7]].any()


def test_rows_without_pairs_are_a_zero_with_a_graph() -> None:
    x = _unit(3, 2).requires_grad_()
    none = torch.zeros(0, dtype=torch.int64)
    value = paired_rows_loss(x, (none, none), _unit(4, 2), torch.ones(3, 4, dtype=torch.bool))
    value.backward()
    assert value.item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


def test_is_float32_under_autocast() -> None:
    torch.manual_seed(4)
    parts = _unit(4, 8), _unit(4, 8), _unit(5, 8)
    expected = online_pairing_loss(*parts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = online_pairing_loss(*parts)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    a, p, n = (part.bfloat16() for part in parts)
    assert online_pairing_loss(a, p, n).dtype == torch.float32
