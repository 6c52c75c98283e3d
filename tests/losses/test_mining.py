"""Mined triplets against loops over all triplets, in float64."""

import itertools

import pytest
import torch
from torch import Tensor

from personsearch.errors import TrainingError
from personsearch.losses.mining import batch_hard, semi_hard
from personsearch.losses.triplet import triplet_loss


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


def _slow_semi_hard(embeddings: Tensor, ids: list[int]) -> list[tuple[int, int, int]]:
    """TensorFlow's rule: "smallest D_an where D_an > D_ap", else "largest D_an"."""
    d, chosen = _distances(embeddings), []
    triplets = _all_triplets(ids)
    for a, p in sorted({(a, p) for a, p, _ in triplets}):
        negatives = [n for b, q, n in triplets if (b, q) == (a, p)]
        outside = [n for n in negatives if d[a, n] > d[a, p]]
        nearest = min(outside, key=lambda n: d[a, n].item(), default=None)
        chosen.append(
            (a, p, max(negatives, key=lambda n: d[a, n].item()) if nearest is None else nearest)
        )
    return chosen


def _tensorflow_loss(embeddings: Tensor, ids: list[int], margin: float) -> float:
    """``triplet_semihard_loss``: squared distances, the sum over all pairs by their number."""
    d, terms = _distances(embeddings) ** 2, []
    for a, p in itertools.permutations(range(len(ids)), 2):
        if ids[a] != ids[p]:
            continue
        negatives = [d[a, n].item() for n in range(len(ids)) if ids[n] != ids[a]]
        outside = [value for value in negatives if value > d[a, p]]
        negative = min(outside) if outside else max(negatives)
        terms.append(max(0.0, margin + d[a, p].item() - negative))
    return sum(terms) / len(terms)


def _batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(13, 5, generator=generator)
    return x / x.norm(dim=1, keepdim=True), torch.randint(-1, 4, (13,), generator=generator)


@pytest.mark.parametrize("seed", range(8))
def test_equal_the_loops(seed: int) -> None:
    x, ids = _batch(seed)
    assert [tuple(t) for t in batch_hard(x, ids).tolist()] == _slow_batch_hard(x, ids.tolist())
    assert [tuple(t) for t in semi_hard(x, ids).tolist()] == _slow_semi_hard(x, ids.tolist())


@pytest.mark.parametrize("margin", [0.05, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_semi_hard_is_the_loss_of_tensorflow(seed: int, margin: float) -> None:
    x, _ = _batch(seed)
    ids = torch.randint(0, 4, (13,), generator=torch.Generator().manual_seed(seed))
    value = triplet_loss(x.double(), semi_hard(x, ids), margin, squared=True)
    assert value.item() == pytest.approx(_tensorflow_loss(x, ids.tolist(), margin), rel=1e-5)


def test_a_batch_by_hand() -> None:
    """People on a line, so that distances can be read off."""
    x = torch.tensor([[0.0], [1.0], [3.0], [1.2], [9.0], [2.9]])
    ids = torch.tensor([7, 7, 7, 4, 4, -1])
    assert batch_hard(x, ids).tolist() == [[0, 2, 3], [1, 2, 3], [2, 0, 5], [3, 4, 1], [4, 3, 2]]
    pairs = [[0, 1, 3], [0, 2, 4], [1, 0, 5], [1, 2, 4], [2, 0, 4], [2, 1, 4]]
    # Nobody is farther from 3 than its positive 4, so that the farthest negative is taken.
    assert semi_hard(x, ids).tolist() == [*pairs, [3, 4, 2], [4, 3, 1]]


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
    assert semi_hard(x, ids).tolist() == [[0, 1, 2], [1, 0, 3]]


@pytest.mark.parametrize("ids", [[], [0], [0, 0, 0], [0, 1, 2], [-1, -1], [-1, 3]])
def test_nothing_to_mine(ids: list[int]) -> None:
    x = torch.randn(len(ids), 3)
    for mined in (
        batch_hard(x, torch.tensor(ids).long()),
        semi_hard(x, torch.tensor(ids).long()),
    ):
        assert mined.shape == (0, 3)
        assert mined.dtype == torch.int64


def test_equal_points_are_all_the_farthest() -> None:
    x, ids = torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])
    assert semi_hard(x, ids).tolist() == [[0, 1, 2], [1, 0, 2], [2, 3, 0], [3, 2, 0]]
    assert [t[0] for t in batch_hard(x, ids).tolist()] == [0, 1, 2, 3]


def test_near_points_are_told_apart() -> None:
    """Distances by a matrix product would lose these in rounding."""
    base = torch.full((1, 512), 30.0)
    x = base.repeat(4, 1)
    x[1, 0] += 1e-2
    x[2, 0] += 2e-2
    x[3, 0] += 3e-2
    assert semi_hard(x, torch.tensor([0, 0, 1, 2])).tolist()[0] == [0, 1, 2]


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
        semi_hard(torch.zeros(shape), torch.zeros(3, dtype=torch.int64))


def test_a_margin_is_deprecated() -> None:
    x, ids = _batch(0)
    with pytest.warns(DeprecationWarning, match="give it to triplet_loss alone"):
        assert torch.equal(semi_hard(x, ids, 0.3), semi_hard(x, ids))
