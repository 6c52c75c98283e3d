"""Norm-aware embedding against a slow float64 version written from its equations."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from personsearch.losses.norm_aware import NormAware, RowNorm, person_loss


def _slow(x: Tensor, scale: float, shift: float, eps: float) -> tuple[Tensor, Tensor]:
    """Directions x / r with r = |x|, and logits (r - E[r]) / sqrt(Var[r] + eps) * scale + shift."""
    lengths = [sum((v * v for v in row), torch.zeros(())).sqrt() for row in x]
    mean = sum(lengths, torch.zeros(())) / len(lengths)
    variance = sum(((r - mean) ** 2 for r in lengths), torch.zeros(())) / len(lengths)
    directions = torch.stack([row / r for row, r in zip(x, lengths, strict=True)])
    logits = [(r - mean) / (variance + eps).sqrt() * scale + shift for r in lengths]
    return directions, torch.stack(logits)


def _slow_loss(logits: Tensor, person: Tensor) -> Tensor:
    """The mean of -log sigmoid(r~) for people and -log(1 - sigmoid(r~)) for background."""
    terms = []
    for logit, is_person in zip(logits, person.tolist(), strict=True):
        probability = 1 / (1 + torch.exp(-logit))
        terms.append(-torch.log(probability if is_person else 1 - probability))
    return sum(terms, torch.zeros(())) / len(terms)


def test_equals_the_slow_version() -> None:
    torch.manual_seed(0)
    module = NormAware()
    with torch.no_grad():
        module.rescale.weight.fill_(1.7)
        module.rescale.bias.fill_(-0.4)
    x = torch.randn(9, 6) * torch.rand(9, 1) * 5
    person = torch.rand(9) > 0.5
    given, same = x.clone().requires_grad_(), x.double().requires_grad_()
    directions, logits = module(given)
    slow_directions, slow_logits = _slow(same, 1.7, -0.4, module.rescale.eps)
    torch.testing.assert_close(directions.double(), slow_directions, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits.double(), slow_logits, rtol=1e-4, atol=1e-5)
    loss, expected = person_loss(logits, person), _slow_loss(slow_logits, person)
    assert math.isclose(float(loss.detach()), float(expected.detach()), rel_tol=1e-5)
    # A second loss on the directions, so that both ways back are compared.
    target = functional.normalize(torch.randn(9, 6), dim=1)
    (loss + (directions * target).sum()).backward()
    (expected + (slow_directions * target).sum()).backward()
    assert given.grad is not None
    assert same.grad is not None
    torch.testing.assert_close(given.grad.double(), same.grad, rtol=1e-4, atol=1e-5)


def test_gradient_equals_finite_differences() -> None:
    torch.manual_seed(1)
    person = torch.tensor([True, False, True, False, False])
    logits = torch.randn(5)
    x = logits.clone().requires_grad_()
    person_loss(x, person).backward()
    assert x.grad is not None
    for index in range(5):
        moved = torch.zeros(5, dtype=torch.float64)
        moved[index] = 1e-6
        up, down = (_slow_loss(logits.double() + sign * moved, person) for sign in (1, -1))
        assert math.isclose(float(x.grad[index]), float(up - down) / 2e-6, abs_tol=1e-6)


def test_the_tasks_do_not_meet() -> None:
    """Length and direction are apart: neither loss moves a vector the way of the other."""
    torch.manual_seed(2)
    module = NormAware()
    x = torch.randn(6, 4, requires_grad=True)
    directions, logits = module(x)
    (along,) = torch.autograd.grad(person_loss(logits, torch.arange(6) > 2), x, retain_graph=True)
    (across,) = torch.autograd.grad((directions * torch.randn(6, 4)).sum(), x)
    # What changes the length is parallel to x, what changes the direction is at right angles.
    parallel = functional.cosine_similarity(along, x).abs()
    torch.testing.assert_close(parallel, torch.ones(6), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((across * x).sum(dim=1), torch.zeros(6), rtol=0, atol=1e-5)


def test_a_longer_vector_is_surer_to_be_a_person() -> None:
    module = NormAware().eval()
    _, logits = module(torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(logits, torch.tensor([5.0, 1.0, 0.0]), rtol=1e-4, atol=1e-4)


def test_one_row_takes_the_statistics_seen_so_far() -> None:
    torch.manual_seed(3)
    norm = RowNorm(3)
    for _ in range(5):
        norm(torch.randn(8, 3) * 2 + 1)
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    row = torch.randn(1, 3)
    assert torch.equal(norm(row), norm.eval()(row))
    assert all(torch.equal(before[k], v) for k, v in norm.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_nobody_at_all(training: bool) -> None:
    module = NormAware().train(training)
    empty = torch.zeros(0, 4, requires_grad=True)
    directions, logits = module(empty)
    assert directions.shape == (0, 4)
    assert logits.shape == (0,)
    loss = person_loss(logits, torch.zeros(0, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_a_vector_of_zeros_has_finite_gradients() -> None:
    module = NormAware()
    x = torch.zeros(4, 3, requires_grad=True)
    directions, logits = module(x)
    (person_loss(logits, torch.arange(4) > 1) + directions.sum()).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_is_float32_under_autocast() -> None:
    torch.manual_seed(4)
    module, x = NormAware(), torch.randn(6, 8)
    expected = [*module(x), person_loss(module(x)[1], torch.arange(6) > 2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = [*module(x), person_loss(module(x)[1], torch.arange(6) > 2)]
    for one, other in zip(given, expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
    directions, logits = module(x.bfloat16())
    assert directions.dtype == logits.dtype == torch.float32


def test_goes_on_from_a_saved_state() -> None:
    torch.manual_seed(5)
    module, copy = NormAware(), NormAware()
    for _ in range(3):
        module(torch.randn(5, 4))
    copy.load_state_dict(module.state_dict())
    assert int(copy.rescale.num_batches_tracked) == 3  # type: ignore[arg-type]
    x = torch.randn(5, 4)
    for one, other in zip(module.eval()(x), copy.eval()(x), strict=True):
        assert torch.equal(one, other)
