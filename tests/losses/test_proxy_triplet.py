"""The proxy triplet loss against equation 5 written out, and its first-in, first-out table."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from personsearch.losses.proxy_triplet import ProxyNegatives, ProxyTriplet


def _unit(n: int, d: int = 6, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(n, d, generator=draw), dim=1)


def _equation_5(
    x: Tensor, ids: Tensor, table: dict[int, list[Tensor]], margin: float, negatives: str
) -> float:
    terms = []
    batch = set(ids.tolist())
    for e, i in zip(x.double(), ids.tolist(), strict=True):
        positive = [float((e - p.double()).square().sum()) for p in table.get(i, [])]
        negative = [
            float((e - p.double()).square().sum())
            for j, proxies in table.items()
            if j != i and (negatives == "table" or j in batch)
            for p in proxies
        ]
        if i >= 0 and positive and negative:
            terms.append(max(0.0, margin + max(positive) - min(negative)))
    return sum(terms) / len(terms) if terms else 0.0


@pytest.mark.parametrize("negatives", ["batch", "table"])
@pytest.mark.parametrize("margin", [0.5, 3.0])
def test_is_equation_5_over_what_was_written(margin: float, negatives: ProxyNegatives) -> None:
    """Its j runs over the batch; the other reading, over all of the table, is a setting."""
    loss = ProxyTriplet(5, 6, slots=2, margin=margin, negatives=negatives)
    table: dict[int, list[Tensor]] = {}
    for step in range(6):
        x, ids = _unit(4, seed=step), torch.tensor([step % 5, (step + 1) % 5, 2, -1])
        expected = _equation_5(x, ids, table, margin, negatives)
        assert loss(x, ids).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        for e, i in zip(x, ids.tolist(), strict=True):
            if i >= 0:
                table[i] = [*table.get(i, []), e][-2:]


def test_the_gradient_reaches_the_samples_as_equation_5_has_it() -> None:
    loss = ProxyTriplet(3, 6, margin=2.0, negatives="table").eval()
    loss.update_memory(_unit(4, seed=1), torch.tensor([0, 0, 1, 2]))
    x = _unit(2, seed=2).requires_grad_()
    ids = torch.tensor([0, 1])
    loss(x, ids).backward()
    expected = []
    for e, i in zip(x.detach(), ids.tolist(), strict=True):
        proxies = {j: loss.values[j, : int(loss.written[j])] for j in range(3)}
        positive = max(proxies[i], key=lambda p, e=e: float((e - p).square().sum()))
        others = torch.cat([p for j, p in proxies.items() if j != i])
        negative = min(others, key=lambda p, e=e: float((e - p).square().sum()))
        # d/dx (|x - p|^2 - |x - n|^2) = 2 (n - p), a mean over two samples.
        expected.append((negative - positive) * 2 / 2)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.stack(expected))


def test_slots_never_written_are_no_proxies() -> None:
    """Zeros would be nearer than most unit vectors are."""
    loss = ProxyTriplet(4, 6, negatives="table").eval()
    x = _unit(3)
    assert loss(x, torch.tensor([0, 1, 2])).item() == 0.0
    loss.update_memory(x[:1], torch.tensor([0]))
    # A positive without a negative, and the other way round.
    assert loss(x, torch.tensor([0, 0, 0])).item() == 0.0
    assert loss(x, torch.tensor([1, 2, 3])).item() == 0.0
    loss.update_memory(x[1:2], torch.tensor([3]))
    assert loss(-x[:1], torch.tensor([0])).item() > 0.0


def test_first_in_first_out() -> None:
    loss = ProxyTriplet(2, 6, slots=2)
    x = _unit(3)
    loss(x, torch.tensor([1, 1, 1]))
    torch.testing.assert_close(loss.values[1], torch.stack([x[2], x[1]]))
    assert loss.written.tolist() == [0, 3]
    assert not loss.values[0].any()


def test_evaluation_mode_remembers_nothing() -> None:
    loss = ProxyTriplet(2, 6).eval()
    loss(_unit(2), torch.tensor([0, 1]))
    assert not loss.written.any()


def test_the_table_is_saved_and_goes_on() -> None:
    loss, copy = ProxyTriplet(3, 6), ProxyTriplet(3, 6)
    loss(_unit(4), torch.tensor([0, 1, 1, 2]))
    copy.load_state_dict(loss.state_dict())
    x, ids = _unit(3, seed=4), torch.tensor([1, 2, 0])
    assert copy(x, ids).item() == loss(x, ids).item()
    assert torch.equal(copy.values, loss.values)
    assert torch.equal(copy.written, loss.written)


@pytest.mark.parametrize("ids", [[], [-1, -1]])
def test_nobody_labelled_is_a_zero_with_a_graph(ids: list[int]) -> None:
    loss = ProxyTriplet(3, 6)
    x = _unit(len(ids)).requires_grad_()
    value = loss(x, torch.tensor(ids, dtype=torch.int64))
    assert value.item() == 0.0
    value.backward()


def test_float32_under_autocast() -> None:
    loss = ProxyTriplet(2, 6).eval()
    loss.update_memory(_unit(2), torch.tensor([0, 1]))
    x, ids = _unit(2, seed=3), torch.tensor([0, 1])
    plain = loss(x, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(x, ids).item() == plain.item()
