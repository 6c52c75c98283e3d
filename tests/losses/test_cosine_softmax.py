"""CosineSoftmax against a slow float64 version written from its equation."""

import math

import torch
from torch.nn import functional

from personsearch.losses.cosine_softmax import CosineSoftmax


def _slow(embeddings: torch.Tensor, ids: torch.Tensor, weight: torch.Tensor, scale: float) -> float:
    terms = []
    for x, t in zip(embeddings.double(), ids.tolist(), strict=True):
        if t < 0:
            continue
        cosines = [float(x @ w / w.norm()) for w in weight.double()]
        total = sum(math.exp(scale * c) for c in cosines)
        terms.append(-math.log(math.exp(scale * cosines[t]) / total))
    return sum(terms) / len(terms)


def test_equals_the_slow_version() -> None:
    torch.manual_seed(0)
    loss = CosineSoftmax(7, 5, scale=9.0)
    embeddings = functional.normalize(torch.randn(11, 5), dim=1)
    ids = torch.tensor([0, 3, -1, 6, 2, 2, -1, 5, 4, 1, 0])
    expected = _slow(embeddings, ids, loss.weight.detach(), 9.0)
    assert math.isclose(float(loss(embeddings, ids).detach()), expected, rel_tol=1e-5)


def test_gradient_equals_finite_differences() -> None:
    torch.manual_seed(1)
    loss = CosineSoftmax(4, 3, scale=4.0)
    embeddings = functional.normalize(torch.randn(5, 3), dim=1).requires_grad_()
    ids = torch.tensor([0, 1, -1, 3, 2])
    loss(embeddings, ids).backward()
    assert embeddings.grad is not None
    assert loss.weight.grad is not None
    weight = loss.weight.detach()
    for target, grad in ((embeddings.detach(), embeddings.grad), (weight, loss.weight.grad)):
        for index in range(target.numel()):
            values = []
            for sign in (1, -1):
                moved = target.double().clone()
                moved.view(-1)[index] += sign * 1e-5
                is_weight = target is weight
                values.append(
                    _slow(
                        embeddings.detach() if is_weight else moved,
                        ids,
                        moved if is_weight else weight,
                        4.0,
                    )
                )
            difference = (values[0] - values[1]) / 2e-5
            assert math.isclose(float(grad.view(-1)[index]), difference, abs_tol=1e-4)


def test_nobody_labelled_is_a_zero_with_a_gradient() -> None:
    loss = CosineSoftmax(3, 2)
    embeddings = torch.ones(2, 2, requires_grad=True)
    value = loss(embeddings, torch.tensor([-1, -1]))
    assert float(value.detach()) == 0.0
    assert value.requires_grad


def test_is_float32_under_autocast() -> None:
    loss = CosineSoftmax(3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(torch.eye(2).bfloat16(), torch.tensor([0, 1]))
    assert value.dtype == torch.float32
