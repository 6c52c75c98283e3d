"""Online instance matching against a slow float64 version written from its equations."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from personsearch.errors import TrainingError
from personsearch.losses.oim import OnlineInstanceMatching


class SlowOim:
    """Plain loops in float64: eq. 1, eq. 4, then the updates, sample after sample."""

    def __init__(self, num_ids: int, dim: int, queue: int, momentum: float, tau: float) -> None:
        self.table = [torch.zeros(dim, dtype=torch.float64) for _ in range(num_ids)]
        self.queue = [torch.zeros(dim, dtype=torch.float64) for _ in range(queue)]
        self.position, self.momentum, self.tau = 0, momentum, tau

    def loss(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        terms = []
        for x, t in zip(embeddings, ids.tolist(), strict=True):
            if t < 0:
                continue
            total = torch.zeros((), dtype=torch.float64)
            for remembered in [*self.table, *self.queue]:
                total = total + torch.exp(remembered.dot(x) / self.tau)
            terms.append(-torch.log(torch.exp(self.table[t].dot(x) / self.tau) / total))
        return sum(terms, torch.zeros((), dtype=torch.float64)) / max(len(terms), 1)

    def update(self, embeddings: Tensor, ids: Tensor) -> None:
        for x, t in zip(embeddings.detach(), ids.tolist(), strict=True):
            if t >= 0:
                moved = self.momentum * self.table[t] + (1 - self.momentum) * x
                self.table[t] = moved / moved.norm()
            elif self.queue:
                self.queue[self.position] = x
                self.position = (self.position + 1) % len(self.queue)


def _batch(n: int, dim: int, num_ids: int) -> tuple[Tensor, Tensor]:
    return functional.normalize(torch.randn(n, dim), dim=1), torch.randint(-1, num_ids, (n,))


@pytest.mark.parametrize(
    ("queue", "momentum", "tau"), [(4, 0.5, 1 / 30), (7, 0.9, 0.1), (0, 0.0, 1.0)]
)
def test_equals_the_slow_version_over_many_steps(queue: int, momentum: float, tau: float) -> None:
    torch.manual_seed(0)
    fast = OnlineInstanceMatching(5, 6, queue, momentum, tau)
    slow = SlowOim(5, 6, queue, momentum, tau)
    for _ in range(12):
        embeddings, ids = _batch(9, 6, 5)
        x, y = embeddings.clone().requires_grad_(), embeddings.double().requires_grad_()
        value, expected = fast(x, ids), slow.loss(y, ids)
        assert math.isclose(float(value.detach()), float(expected.detach()), rel_tol=1e-4)
        value.backward()
        expected.backward()
        assert x.grad is not None
        assert y.grad is not None
        torch.testing.assert_close(x.grad.double(), y.grad, atol=1e-4, rtol=1e-4)
        slow.update(y, ids)
        torch.testing.assert_close(fast.lookup.values, torch.stack(slow.table).float())
        if queue:
            torch.testing.assert_close(fast.queue.values, torch.stack(slow.queue).float())
            assert int(fast.queue.position) == slow.position


def test_gradient_equals_finite_differences() -> None:
    torch.manual_seed(1)
    loss = OnlineInstanceMatching(3, 4, 2, temperature=0.5)
    loss(*_batch(8, 4, 3))
    loss.eval()
    slow = SlowOim(3, 4, 2, 0.5, 0.5)
    slow.table, slow.queue = list(loss.lookup.values.double()), list(loss.queue.values.double())
    embeddings, ids = _batch(4, 4, 3)
    ids[0], ids[1] = 2, -1
    x = embeddings.clone().requires_grad_()
    loss(x, ids).backward()
    assert x.grad is not None
    for index in range(x.numel()):
        moved = [embeddings.double().clone() for _ in range(2)]
        moved[0].view(-1)[index] += 1e-5
        moved[1].view(-1)[index] -= 1e-5
        difference = float(slow.loss(moved[0], ids) - slow.loss(moved[1], ids)) / 2e-5
        assert math.isclose(float(x.grad.view(-1)[index]), difference, abs_tol=1e-4)
    assert not x.grad[1].any()


def test_the_loss_comes_before_the_update() -> None:
    loss = OnlineInstanceMatching(2, 2, 2)
    # All four remembered rows are zero, so each has probability 1/4.
    first = loss(torch.eye(2), torch.tensor([0, -1]))
    assert math.isclose(float(first), math.log(4), rel_tol=1e-6)
    assert loss.lookup.values.tolist() == [[1, 0], [0, 0]]
    assert loss.queue.values.tolist() == [[0, 1], [0, 0]]


def test_unlabelled_people_run_round_the_queue() -> None:
    loss = OnlineInstanceMatching(1, 1, 3)
    for value in (1.0, 2.0, 3.0, 4.0):
        result = loss(torch.tensor([[value]], requires_grad=True), torch.tensor([-1]))
        assert float(result.detach()) == 0.0
        assert result.requires_grad
    assert loss.queue.values[:, 0].tolist() == [4.0, 2.0, 3.0]
    assert int(loss.queue.position) == 1
    assert not loss.lookup.values.any()


def test_evaluation_leaves_the_memory() -> None:
    torch.manual_seed(2)
    loss = OnlineInstanceMatching(4, 3, 4)
    batch = _batch(6, 3, 4)
    loss(*batch)
    before = {k: v.clone() for k, v in loss.state_dict().items()}
    loss.eval()
    value = loss(*batch)
    assert float(value) > 0
    assert all(torch.equal(before[k], v) for k, v in loss.state_dict().items())
    loss.train()
    assert torch.equal(loss(*batch), value)
    assert not torch.equal(before["lookup.values"], loss.lookup.values)


def test_remembering_is_what_training_does_after_the_loss() -> None:
    torch.manual_seed(5)
    trained, told = OnlineInstanceMatching(4, 3, 4), OnlineInstanceMatching(4, 3, 4).eval()
    for _ in range(3):
        embeddings, ids = _batch(7, 3, 4)
        trained(embeddings, ids)
        # Asked to, it remembers in any mode, and keeps no graph.
        told.update_memory(embeddings.requires_grad_(), ids)
    for name, value in trained.state_dict().items():
        assert torch.equal(told.state_dict()[name], value)
    assert told.lookup.values.any()
    assert int(told.queue.position) > 0
    assert not told.lookup.values.requires_grad
    assert not told.queue.values.requires_grad


def test_nobody_at_all_is_a_zero() -> None:
    loss = OnlineInstanceMatching(2, 3, 2)
    empty = torch.zeros(0, 3, requires_grad=True)
    value = loss(empty, torch.zeros(0, dtype=torch.int64))
    value.backward()
    assert float(value.detach()) == 0.0


def test_is_float32_under_autocast() -> None:
    torch.manual_seed(3)
    loss, same = OnlineInstanceMatching(3, 8, 2), OnlineInstanceMatching(3, 8, 2)
    embeddings, ids = _batch(6, 8, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(2):
            value = loss(embeddings, ids)
    for _ in range(2):
        expected = same(embeddings, ids)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert torch.equal(loss.lookup.values, same.lookup.values)


def test_takes_half_precision_embeddings() -> None:
    loss = OnlineInstanceMatching(2, 2, 1)
    value = loss(torch.eye(2).bfloat16(), torch.tensor([0, 1]))
    assert value.dtype == torch.float32
    assert loss.lookup.values.dtype == torch.float32


def test_goes_on_from_a_saved_state() -> None:
    torch.manual_seed(4)
    loss, copy = OnlineInstanceMatching(4, 3, 5), OnlineInstanceMatching(4, 3, 5)
    for _ in range(3):
        loss(*_batch(7, 3, 4))
    copy.load_state_dict(loss.state_dict())
    assert int(copy.queue.position) == int(loss.queue.position)
    for _ in range(3):
        batch = _batch(7, 3, 4)
        assert torch.equal(loss(*batch), copy(*batch))
    assert torch.equal(loss.queue.values, copy.queue.values)


def test_an_id_beyond_the_table_is_named() -> None:
    loss = OnlineInstanceMatching(3, 2, 1)
    with pytest.raises(TrainingError, match=r"identity 3 is out of range: the lookup table"):
        loss(torch.eye(2), torch.tensor([3, -1]))
    assert not loss.lookup.values.any()


def test_confidence_scales_similarities_as_in_agwf() -> None:
    """Equation 7 of Han et al. 2021 over the lookup table and the queue, in float64."""
    torch.manual_seed(0)
    loss = OnlineInstanceMatching(5, 6, 4, temperature=0.1)
    for _ in range(3):
        loss(*_batch(9, 6, 5))
    loss.eval()
    embeddings, ids = _batch(9, 6, 5)
    alpha = torch.rand(9)
    memory = torch.cat([loss.lookup.values, loss.queue.values]).double()
    terms = []
    for x, t, a in zip(embeddings.double(), ids.tolist(), alpha.tolist(), strict=True):
        if t >= 0:
            s = memory @ x
            others = [k for k in range(len(s)) if k != t]
            terms.append(1 + torch.exp(a * (s[others] - s[t]) / 0.1).sum())
    expected = torch.stack(terms).log().mean().item()
    assert loss(embeddings, ids, alpha).item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(loss(embeddings, ids, torch.ones(9)), loss(embeddings, ids))
    unlabelled = torch.full_like(ids, -1)
    assert loss(embeddings, unlabelled, alpha).item() == 0
