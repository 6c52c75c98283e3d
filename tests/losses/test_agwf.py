"""Trident's losses against the equations written out in float64, and their derivatives."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from personsearch.errors import TrainingError
from personsearch.losses.agwf import (
    binary_loss,
    identity_loss,
    part_loss,
    unlabelled_loss,
    weighting_curves,
)


def _samples(seed: int = 0, n: int = 5, k: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Similarities (n, k), confidences (n,) and targets (n,)."""
    draw = torch.Generator().manual_seed(seed)
    similarity = torch.rand(n, k, generator=draw) * 2 - 1
    return similarity, torch.rand(n, generator=draw), torch.randint(0, k, (n,), generator=draw)


def _eq7(s: list[float], alpha: float, y: int, tau: float) -> float:
    return math.log(1 + sum(math.exp(alpha * (s[k] - s[y]) / tau) for k in range(len(s)) if k != y))


def _weights(s: list[float], y: int, tau: float) -> list[float]:
    """F_k(S_i, y_i), eq. 4."""
    below = 1 + sum(math.exp((s[j] - s[y]) / tau) for j in range(len(s)) if j != y)
    f = [math.exp((s[k] - s[y]) / tau) / below / tau if k != y else 0.0 for k in range(len(s))]
    f[y] = -sum(f)
    return f


@pytest.mark.parametrize("tau", [1 / 30, 0.3])
def test_identity_loss_is_equation_7(tau: float) -> None:
    similarity, alpha, y = _samples()
    rows = zip(similarity.double().tolist(), alpha.double().tolist(), y.tolist(), strict=True)
    expected = sum(_eq7(s, a, t, tau) for s, a, t in rows) / len(y)
    assert identity_loss(similarity, alpha, y, tau).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tau", [1 / 30, 0.3])
def test_the_gradient_of_identity_loss_is_equation_5(tau: float) -> None:
    """G_k(S_i, alpha_i, y_i) = alpha_i F_k(alpha_i S_i, y_i)."""
    similarity, alpha, y = _samples()
    similarity.requires_grad_()
    identity_loss(similarity, alpha, y, tau).backward()
    rows = zip(similarity.tolist(), alpha.tolist(), y.tolist(), strict=True)
    expected = [[a * f / len(y) for f in _weights([a * v for v in s], t, tau)] for s, a, t in rows]
    assert similarity.grad is not None
    torch.testing.assert_close(similarity.grad, torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_binary_loss_is_equation_8_and_so_is_its_gradient() -> None:
    own, alpha = torch.tensor([0.9, -0.3, 0.1]), torch.tensor([1.0, 0.5, 0.0])
    own.requires_grad_()
    loss = binary_loss(own, alpha)
    terms = [math.exp((1 - a * s) / 2.0) for s, a in zip(own.tolist(), alpha.tolist(), strict=True)]
    assert loss.item() == pytest.approx(sum(math.log(1 + t) for t in terms) / 3, rel=1e-6)
    loss.backward()
    expected = [-a / 2.0 * t / (1 + t) / 3 for t, a in zip(terms, alpha.tolist(), strict=True)]
    assert own.grad is not None
    assert own.grad.tolist() == pytest.approx(expected, rel=1e-5)


def test_unlabelled_loss_is_equation_9_and_so_is_its_gradient() -> None:
    similarity, alpha, _ = _samples()
    similarity.requires_grad_()
    reference, tau = torch.tensor(0.4, requires_grad=True), 0.2
    loss = unlabelled_loss(similarity, alpha, reference, tau)
    values, gradients, slope = [], [], 0.0
    for s, a in zip(similarity.tolist(), alpha.tolist(), strict=True):
        terms = [math.exp(a * (v - 0.4) / tau) for v in s]
        values.append(math.log(1 + sum(terms)))
        gradients.append([a / tau * t / (1 + sum(terms)) / len(alpha) for t in terms])
        slope -= sum(gradients[-1])
    assert loss.item() == pytest.approx(sum(values) / len(values), rel=1e-5)
    loss.backward()
    assert similarity.grad is not None
    assert reference.grad is not None
    torch.testing.assert_close(similarity.grad, torch.tensor(gradients), rtol=1e-4, atol=1e-6)
    assert reference.grad.item() == pytest.approx(slope, rel=1e-4)


def test_part_loss_is_equation_11_and_so_is_its_gradient() -> None:
    draw = torch.Generator().manual_seed(1)
    n, p, tau = 4, 3, 1 / 10
    logits = torch.randn(n, p, p + 1, generator=draw, requires_grad=True)
    alpha = torch.rand(n, generator=draw)
    z = torch.tensor([[0, 1, 2], [0, 1, 2], [3, 3, 3], [0, 1, 2]])
    loss = part_loss(logits, alpha, z, tau)
    total = 0.0
    expected = torch.zeros(n, p, p + 1)
    for i in range(n):
        for j in range(p):
            row, a, t = logits[i, j].tolist(), alpha[i].item(), int(z[i, j])
            total += _eq7(row, a, t, tau)
            weights = _weights([a * v for v in row], t, tau)
            expected[i, j] = torch.tensor([a * f / (n * p) for f in weights])
    assert loss.item() == pytest.approx(total / (n * p), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-6)


def test_confidence_takes_part_in_the_gradient_where_it_wants_one() -> None:
    similarity, alpha, y = _samples()
    alpha = alpha.double().requires_grad_()

    def loss(a: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(a[:, None] * similarity.double() / 0.3, y)

    (expected,) = torch.autograd.grad(loss(alpha), alpha)
    (gradient,) = torch.autograd.grad(identity_loss(similarity, alpha, y, 0.3), alpha)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def _zero_losses() -> dict[str, Callable[[Tensor], Tensor]]:
    none, ids = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    return {
        "identity": lambda x: identity_loss(x.reshape(0, 4), none, ids),
        "binary": lambda x: binary_loss(x, none),
        "unlabelled": lambda x: unlabelled_loss(x.reshape(0, 4), none, torch.tensor(0.5)),
        "part": lambda x: part_loss(x.reshape(0, 2, 3), none, torch.zeros(0, 2, dtype=torch.int64)),
    }


@pytest.mark.parametrize("name", ["identity", "binary", "unlabelled", "part"])
def test_no_sample_is_a_zero_with_a_graph(name: str) -> None:
    x = torch.zeros(0, requires_grad=True)
    loss = _zero_losses()[name](x)
    assert loss.item() == 0.0
    loss.backward()


def test_float32_under_autocast() -> None:
    similarity, alpha, y = _samples()
    plain = identity_loss(similarity, alpha, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = identity_loss(similarity.bfloat16().float(), alpha, y)
        assert half.dtype == torch.float32
        assert identity_loss(similarity, alpha, y).item() == plain.item()


def test_large_similarities_do_not_overflow() -> None:
    similarity = torch.tensor([[1.0, -1.0]], requires_grad=True)
    one = torch.ones(1)
    for loss in (
        identity_loss(similarity, one, torch.tensor([1]), 1e-4),
        unlabelled_loss(similarity, one, torch.tensor(-1.0), 1e-4),
        binary_loss(similarity[:, 1], one, 1e-4),
    ):
        assert torch.isfinite(loss)
        (gradient,) = torch.autograd.grad(loss, similarity, retain_graph=True)
        assert torch.isfinite(gradient).all()


def test_the_curves_of_figure_3_are_equation_5() -> None:
    scores, alphas = torch.linspace(-1, 1, 9), torch.tensor([0.1, 0.5, 1.0])
    curves = weighting_curves(scores, alphas, true_score=0.5, temperature=0.3)
    expected = [
        [a * _weights([a * s, a * 0.5], 1, 0.3)[0] for s in scores.tolist()]
        for a in alphas.tolist()
    ]
    torch.testing.assert_close(curves, torch.tensor(expected), rtol=1e-4, atol=1e-6)
    # As the figure shows: they rise, and the surer the detection, the higher they reach.
    assert (curves[:, 1:] > curves[:, :-1]).all()
    assert (curves[1:] > curves[:-1])[:, -1].all()
    with torch.no_grad():
        assert torch.equal(weighting_curves(scores, alphas), curves)
    assert weighting_curves(scores[:0], alphas).shape == (3, 0)


def test_shapes_that_disagree_are_an_error() -> None:
    two, three = torch.ones(2), torch.ones(3)
    ids = torch.zeros(3, dtype=torch.int64)
    for loss in (
        lambda: identity_loss(torch.ones(3, 4), two, ids),
        lambda: binary_loss(three, two),
        lambda: unlabelled_loss(torch.ones(3, 4), two, torch.tensor(0.5)),
        lambda: part_loss(torch.ones(3, 6, 7), two, torch.zeros(3, 6, dtype=torch.int64)),
    ):
        with pytest.raises(TrainingError, match=r"confidence has shape \(2,\), expected \(3,\)"):
            loss()
    with pytest.raises(TrainingError, match=r"targets has shape \(3,\), expected \(3, 6\)"):
        part_loss(torch.ones(3, 6, 7), three, ids)
    with pytest.raises(TrainingError, match=r"targets has shape \(3,\), expected \(2,\)"):
        identity_loss(torch.ones(2, 4), two, ids)
