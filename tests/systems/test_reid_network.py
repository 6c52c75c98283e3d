"""The re-ID network: embeddings of crops, and the softmax of their identities."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from personsearch.detectors.backbones import build_trunk
from personsearch.errors import ModelError, TrainingError
from personsearch.losses.cosine_softmax import CosineSoftmax
from personsearch.losses.mining import batch_hard
from personsearch.losses.triplet import triplet_loss
from personsearch.systems.reid_network import ReidNetwork, ReidSettings


def _network(**changes: Any) -> ReidNetwork:
    torch.manual_seed(0)
    trunk = build_trunk("small", width=4, embedding_grid=changes.pop("grid", (1, 1)))
    settings = ReidSettings(**{f"reid_{key}": value for key, value in changes.items()})
    return ReidNetwork(trunk, 5, settings)


@pytest.mark.parametrize(
    ("dim", "grid", "expected"), [(0, (1, 1), 1), (0, (2, 1), 2), (24, (4, 1), 0)]
)
def test_embeddings_are_of_unit_length(dim: int, grid: tuple[int, int], expected: int) -> None:
    network = _network(dim=dim, grid=grid).eval()
    width = build_trunk("small", width=4).channels["C5"]
    crops = torch.rand(3, 3, 64, 32, requires_grad=True)
    embeddings = network.embed(crops)
    assert embeddings.shape == (3, network.embedding_dim)
    assert network.embedding_dim == (dim or expected * width)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    (gradient,) = torch.autograd.grad(embeddings.sum(), crops)
    assert gradient.any()
    assert network.embed(crops[:0]).shape == (0, network.embedding_dim)


def test_the_paper_s_network_is_the_strong_baseline() -> None:
    """ResNet-50 with last stride 1, a neck without shift, a classifier without bias."""
    network = ReidNetwork(build_trunk("resnet50"), 7)
    assert network.embedding_dim == 2048
    assert network.classifier.weight.shape == (7, 2048)
    assert network.classifier.bias is None
    assert 5e-4 < network.classifier.weight.std() < 2e-3
    assert isinstance(network.neck, nn.BatchNorm1d)
    assert not network.neck.bias.requires_grad
    with torch.no_grad():
        maps = network.eval().blocks(torch.rand(1, 3, 384, 128))
    assert maps.shape == (1, 2048, 24, 8)
    assert sum(p.numel() for p in network.blocks.parameters()) == 23_508_032


def test_the_loss_of_triplets_is_before_the_neck_and_the_softmax_after() -> None:
    network = _network()
    crops, ids = torch.rand(6, 3, 64, 32), torch.tensor([0, 0, 1, 1, 2, 2])
    network.eval()
    losses = network.losses(crops, ids, margin=0.3)
    features = network(crops)
    logits = network.neck(features) @ network.classifier.weight.t()
    torch.testing.assert_close(losses["softmax"], functional.cross_entropy(logits, ids))
    expected = triplet_loss(features, batch_hard(features, ids), 0.3)
    torch.testing.assert_close(losses["triplet"], expected)
    after = functional.normalize(network.neck(features), dim=1)
    torch.testing.assert_close(network.embed(crops), after)
    assert network.losses(crops, ids, margin=0.0).keys() == {"softmax"}


def test_last_strides() -> None:
    crops = torch.rand(1, 3, 64, 32)
    for stride, shape in ((1, (4, 2)), (2, (2, 1))):
        assert _network(last_stride=stride).blocks(crops).shape[2:] == shape
    with pytest.raises(ModelError, match="reid_last_stride is 4, expected 1"):
        _network(last_stride=4)


@pytest.mark.parametrize("stride", [1, 2])
def test_narrow_maps_are_computed_exactly_in_mixed_precision(stride: int) -> None:
    """A bfloat16 convolution that leaves one column reads foreign memory on some processors."""
    torch.manual_seed(0)
    settings = ReidSettings(reid_last_stride=stride)
    network = ReidNetwork(build_trunk("small", width=16), 5, settings).eval()
    crops = torch.rand(24, 3, 64, 32)
    exact = network.embed(crops)
    for _ in range(3):
        junk = [torch.full((200, 500), torch.inf) for _ in range(10)]
        del junk
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network.embed(crops)
        assert (mixed * exact).sum(dim=1).min() > 0.999


def test_what_a_detector_freezes_is_trained() -> None:
    torch.manual_seed(0)
    frozen = ReidNetwork(build_trunk("small", norm="frozen", frozen_stages=2, width=4), 5)
    fixed = [name for name, p in frozen.named_parameters() if not p.requires_grad]
    assert fixed == ["neck.bias"]
    assert frozen.state_dict().keys() == _network().state_dict().keys()
    crops = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(frozen.eval().embed(crops), _network().eval().embed(crops))


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_the_softmax_leaves_the_unlabelled_out(classifier: str) -> None:
    network = _network(classifier=classifier, neck=False)
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
