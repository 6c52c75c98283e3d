"""SeqNet: a first head makes boxes, a second one embeds them."""

from typing import Any

import numpy as np
import pytest
import torch
from drawn import REGIONS, build, scenes, total
from torch import Tensor
from torch.nn import functional

from personsearch.detectors.backbones import build_backbone
from personsearch.evaluation.context_matching import ContextMatching, query_context
from personsearch.evaluation.search import evaluate_search
from personsearch.systems.seqnet import SeqNet
from personsearch.types import Query, SearchProtocol

SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "queue_size": 8,
    "roi_size": (8, 4),
}
APART = {"detection_hidden": 16, "detection_grid": (3, 2)}


def _model(**changes: Any) -> SeqNet:
    return build(SeqNet, SETTINGS | changes)


def test_the_published_network() -> None:
    model = SeqNet(build_backbone("resnet50"), 10)
    assert model.first_head is not None
    first, second = model.first_head.state_dict(), model.head.state_dict()
    assert all(torch.equal(first[name], value) for name, value in second.items())
    own = {id(p) for p in model.first_head.parameters()}
    assert own.isdisjoint(id(p) for p in model.head.parameters())
    assert model.first.classifier.weight.shape == (2, 2048)
    assert (model.proposal_box_weight, model.box_weight, model.box_beta) == (10.0, 1.0, 1.0)
    assert (model.first_nms_iou, model.settings.nms_iou) == (0.4, 0.5)
    assert model.confidence_weighted


def test_the_first_head_reads_a_maximum() -> None:
    model = _model().eval()
    images, targets = scenes(unlabelled=True)
    maps = model.extract_features(images[:1])
    boxes = [targets[0].boxes]
    assert model.first_head is not None
    flat = model.first_head(model.pool(maps, boxes)).amax(dim=(2, 3))
    logits, deltas = model._first(maps, boxes)
    torch.testing.assert_close(logits, functional.linear(flat, *_weights(model.first.classifier)))
    torch.testing.assert_close(deltas, functional.linear(flat, *_weights(model.first.regressor)))


def _weights(layer: torch.nn.Linear) -> tuple[Tensor, Tensor]:
    return layer.weight, layer.bias


def test_the_second_head_sees_the_boxes_of_the_first() -> None:
    model = _model()
    images, targets = scenes(unlabelled=True)
    seen: list[list[Tensor]] = []
    regions = model.regions
    model.regions = lambda boxes: (seen.append(boxes), regions(boxes))[1]  # type: ignore[method-assign]
    with torch.no_grad():
        model.first.regressor.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 1.0]))
    model(images, targets)
    first, second = seen
    sides = [torch.cat(b)[:, 2:] - torch.cat(b)[:, :2] for b in (first, second)]
    # Boxes of the first head are e^(1/5) as large, but for those cut off at the border and for the
    # true boxes that were added.
    assert sides[1].mean() > 1.05 * sides[0].mean()


def test_no_gradient_goes_from_the_second_head_through_a_box() -> None:
    model = _model(**APART)
    images, targets = scenes(unlabelled=True)
    model(images, targets)
    losses = model(images, targets)
    total({k: losses[k] for k in ("detection", "box", "oim")}).backward(retain_graph=True)
    assert all(p.grad is None for p in model.first.parameters())
    model.zero_grad()
    total({k: losses[k] for k in ("proposal", "proposal_box")}).backward()
    assert all(p.grad is None for p in (*model.embedder.parameters(), *model.head.parameters()))


def test_the_first_head_scores() -> None:
    model = _model(score_threshold=0.0).eval()
    images, _ = scenes(unlabelled=True)
    with torch.no_grad():
        model.first.classifier.bias.copy_(torch.tensor([0.0, 5.0]))
        model.embedder.norm_aware.rescale.bias.fill_(-5.0)
    assert (model.detect(images[:1])[0].scores > 0.5).all()


def test_search_with_the_people_around_the_query() -> None:
    """What the system detects in the query's own picture is all that context matching needs."""
    model = _model(score_threshold=0.0, max_detections=6).eval()
    images, targets = scenes(unlabelled=True)
    names = [f"scene {k}" for k in range(4)]
    found = dict(zip(names, model.detect(images), strict=True))
    box = targets[0].boxes[0].numpy()
    protocol = SearchProtocol(
        name="one",
        queries=[Query(names[0], box, 0)],
        galleries=[names[1:]],
        targets=[{names[3]: targets[3].boxes[0].numpy()}],
    )
    query = model.embed(images[:1], [targets[0].boxes[:1]])[0].numpy()
    people = query_context(protocol, query, found, score_threshold=0.0)
    assert len(people[0]) > 1
    assert np.array_equal(people[0][0], query[0])
    for context in (None, ContextMatching(people, k1=10, k2=3)):
        result = evaluate_search(
            protocol,
            found,
            query,
            score_threshold=0.0,
            confidence_weighted=model.confidence_weighted,
            context=context,
        )
        assert 0.0 <= result.mean_ap <= 1.0


def test_the_first_head_starts_as_torchvisions() -> None:
    """Uniform within 1 / sqrt(2048), biases included; the second head starts with normal, 0.01."""
    model = SeqNet(build_backbone("resnet50"), 10)
    assert model.first.classifier is not None
    for layer in (model.first.classifier, model.first.regressor):
        assert layer.weight.abs().max().item() == pytest.approx(2048**-0.5, rel=0.01)
        assert layer.weight.std().item() == pytest.approx(0.0128, rel=0.05)
        assert layer.bias.abs().max() > 0
    assert model.regressor[-1][0].weight.std().item() == pytest.approx(0.01, rel=0.05)
