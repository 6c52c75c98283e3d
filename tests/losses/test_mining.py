"""Mined triplets against loops over all triplets, in float64."""

import itertools

import pytest
import torch
from torch import Tensor

from personsearch.errors import TrainingError
from personsearch.losses.mining import batch_hard, semi_hard


def _all_triplets(ids: list[int]) -> list[tuple[int, int, int]]:
    """Every anchor, positive and negative that the identities allow."""
    return [
        (a, p, n)
        for a, p, n in itertools.product(range(len(ids)), repeat=3)
        if ids[a] >= 0 and a != p and ids[a] == ids[p] and ids[n] != ids[a]
    ]


def _distances(embeddings: Tensor) -> Tensor:
    x = embeddings.double()
    return (x[:, None] - x[None, :]).pow(2).sum(dim=2).sqrt()


def _slow_batch_hard(embeddings: Tensor, ids: list[int]) -> list[tuple[int, int, int]]:
    d, chosen = _distances(embeddings), []
    for anchor in range(len(ids)):
        mine = [t for t in _all_triplets(ids) if t[0] == anchor]
        if mine:
            positive = max({p for _, p, _ in mine}, key=lambda p: d[anchor, p].item())
            negative = min({n for _, _, n in mine}, key=lambda n: d[anchor, n].item())
            chosen.append((anchor, positive, negative))
    return chosen


def _slow_semi_hard(
    embeddings: Tensor, ids: list[int], margin: float
) -> list[tuple[int, int, int]]:
    d, best = _distances(embeddings), {}
    for a, p, n in _all_triplets(ids):
        if d[a, p] < d[a, n] < d[a, p] + margin and (
            (a, p) not in best or d[a, n] < d[a, best[a, p]]
        ):
            best[a, p] = n
    return [(a, p, best[a, p]) for a, p in sorted(best)]


def _batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(13, 5, generator=generator)
    return x / x.norm(dim=1, keepdim=True), torch.randint(-1, 4, (13,), generator=generator)


@pytest.mark.parametrize("seed", range(8))
def test_equal_the_loops(seed: int) -> None:
    x, ids = _batch(seed)
    assert [tuple(t) for t in batch_hard(x, ids).tolist()] == _slow_batch_hard(x, ids.tolist())
    for margin in (0.05, 0.3, 2.0):
        mined = [tuple(t) for t in semi_hard(x, ids, margin).tolist()]
        assert mined == _slow_semi_hard(x, ids.tolist(), margin)


def test_a_batch_by_hand() -> None:
    """People on a line, so that distances can be read off."""
    x = torch.tensor([[0.0], [1.0], [3.0], [1.2], [9.0], [2.9]])
    ids = torch.tensor([7, 7, 7, 4, 4, -1])
    assert batch_hard(x, ids).tolist() == [[0, 2, 3], [1, 2, 3], [2, 0, 5], [3, 4, 1], [4, 3, 2]]
    # Of 0, 1: row 3 is at 1.2, within 1 + 0.3. Of 1, 0: row 5 is at 1.9, beyond 1.3. Of 4, 3: row
    # 1 is at 8, within 7.8 + 0.3. All other pairs have nobody at such a distance.
    assert semi_hard(x, ids, 0.3).tolist() == [[0, 1, 3], [4, 3, 1]]
    assert semi_hard(x, ids, 1.0).tolist() == [[0, 1, 3], [1, 0, 5], [4, 3, 1]]


@pytest.mark.parametrize("seed", range(8))
def test_given_pictures_positives_are_in_another_one(seed: int) -> None:
    x, ids = _batch(seed)
    pictures = torch.randint(3, (13,), generator=torch.Generator().manual_seed(seed))
    d, expected = _distances(x), []
    for a, p, n in _all_triplets(ids.tolist()):
        others = [
            (p2, n2)
            for a2, p2, n2 in _all_triplets(ids.tolist())
            if a2 == a and pictures[p2] != pictures[a]
        ]
        if (p, n) in others and all(
            d[a, p] >= d[a, p2] and d[a, n] <= d[a, n2] for p2, n2 in others
        ):
            expected.append((a, p, n))
    assert [tuple(t) for t in batch_hard(x, ids, pictures).tolist()] == expected
    alone = batch_hard(x, ids, torch.arange(13))
    assert torch.equal(alone, batch_hard(x, ids))
    assert not len(batch_hard(x, ids, torch.zeros(13)))


def test_unlabelled_people_are_negatives_only() -> None:
    x = torch.tensor([[0.0], [1.0], [1.5], [1.6]])
    ids = torch.tensor([0, 0, -1, -1])
    assert batch_hard(x, ids).tolist() == [[0, 1, 2], [1, 0, 2]]
    assert semi_hard(x, ids, 1.0).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("ids", [[], [0], [0, 0, 0], [0, 1, 2], [-1, -1], [-1, 3]])
def test_nothing_to_mine(ids: list[int]) -> None:
    x = torch.randn(len(ids), 3)
    for mined in (
        batch_hard(x, torch.tensor(ids).long()),
        semi_hard(x, torch.tensor(ids).long(), 1),
    ):
        assert mined.shape == (0, 3)
        assert mined.dtype == torch.int64


def test_equal_points_are_no_ones_semi_hard_negative() -> None:
    x, ids = torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])
    assert semi_hard(x, ids, 0.3).shape == (0, 3)
    assert [t[0] for t in batch_hard(x, ids).tolist()] == [0, 1, 2, 3]


def test_near_points_are_told_apart() -> None:
    """Distances by a matrix product would lose these in rounding."""
    base = torch.full((1, 512), 30.0)
    x = base.repeat(4, 1)
    x[1, 0] += 1e-2
    x[2, 0] += 2e-2
    x[3, 0] += 3e-2
    assert semi_hard(x, torch.tensor([0, 0, 1, 2]), 0.1).tolist()[0] == [0, 1, 2]


def test_mining_has_no_gradient_and_takes_any_precision() -> None:
    x, ids = _batch(0)
    expected = batch_hard(x, ids)
    assert torch.equal(batch_hard(x.clone().requires_grad_(), ids), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(batch_hard(x, ids), expected)
    assert batch_hard(x.bfloat16(), ids).shape == expected.shape


@pytest.mark.parametrize("shape", [(3,), (2, 4), (3, 4, 1)])
def test_shapes_that_disagree(shape: tuple[int, ...]) -> None:
    with pytest.raises(TrainingError, match=r"expected \(N, D\) and \(N,\)"):
        batch_hard(torch.zeros(shape), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(TrainingError, match=r"expected \(N, D\) and \(N,\)"):
        semi_hard(torch.zeros(shape), torch.zeros(3, dtype=torch.int64), 0.3)
