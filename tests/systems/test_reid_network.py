"""The re-ID network: embeddings of crops, and the softmax of their identities."""

import pytest
import torch
from torch.nn import functional

from personsearch.detectors.backbones import build_trunk
from personsearch.errors import ModelError, TrainingError
from personsearch.losses.cosine_softmax import CosineSoftmax
from personsearch.systems.reid_network import ReidNetwork


def _network(**changes: object) -> ReidNetwork:
    torch.manual_seed(0)
    grid = changes.pop("embedding_grid", (1, 1))
    trunk = build_trunk("small", width=4, embedding_grid=grid)  # type: ignore[arg-type]
    return ReidNetwork(trunk, 5, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dim", "grid", "expected"), [(0, (1, 1), 1), (0, (2, 1), 2), (24, (4, 1), 0)]
)
def test_embeddings_are_of_unit_length(dim: int, grid: tuple[int, int], expected: int) -> None:
    network = _network(embedding_dim=dim, embedding_grid=grid).eval()
    width = build_trunk("small", width=4).channels["C5"]
    crops = torch.rand(3, 3, 64, 32, requires_grad=True)
    embeddings = network.embed(crops)
    assert embeddings.shape == (3, network.embedding_dim)
    assert network.embedding_dim == (dim or expected * width)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    (gradient,) = torch.autograd.grad(embeddings.sum(), crops)
    assert gradient.any()
    assert network.embed(crops[:0]).shape == (0, network.embedding_dim)


def test_the_paper_s_network_is_resnet_50() -> None:
    network = ReidNetwork(build_trunk("resnet50"), 7)
    assert network.embedding_dim == 2048
    assert network.classifier.weight.shape == (7, 2048)


def test_what_a_detector_freezes_is_trained() -> None:
    torch.manual_seed(0)
    frozen = ReidNetwork(build_trunk("small", norm="frozen", frozen_stages=2, width=4), 5)
    assert all(p.requires_grad for p in frozen.parameters())
    assert frozen.state_dict().keys() == _network().state_dict().keys()
    crops = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(frozen.eval().embed(crops), _network().eval().embed(crops))


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_the_softmax_leaves_the_unlabelled_out(classifier: str) -> None:
    network = _network(classifier=classifier)
    features = torch.randn(3, network.embedding_dim)
    ids = torch.tensor([4, -1, 0])
    loss = network.softmax_loss(features, ids)
    known = features[[0, 2]]
    if isinstance(network.classifier, CosineSoftmax):
        weight = functional.normalize(network.classifier.weight, dim=1)
        logits = network.classifier.scale * functional.normalize(known, dim=1) @ weight.t()
    else:
        logits = known @ network.classifier.weight.t() + network.classifier.bias
    expected = functional.cross_entropy(logits, torch.tensor([4, 0]))
    torch.testing.assert_close(loss, expected)
    assert network.softmax_loss(features, torch.full((3,), -1)).item() == 0.0
    with pytest.raises(TrainingError, match=r"identity 5 is out of range: the classifier"):
        network.softmax_loss(features, torch.tensor([5, 0, 0]))


def test_a_grid_is_two_numbers() -> None:
    with pytest.raises(ModelError, match="embedding_grid is"):
        _network(embedding_grid=(1,))
