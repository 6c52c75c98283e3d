"""SeqNet: a first head makes boxes, a second one embeds them."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from personsearch.evaluation.rerank import ContextMatching, query_context
from personsearch.evaluation.search import evaluate_search
from personsearch.systems.backbones import build_backbone
from personsearch.systems.regions import RegionSettings
from personsearch.systems.seqnet import SeqNet
from personsearch.types import Query, SearchProtocol, Target

SETTINGS: dict[str, Any] = {
    "embedding_dim": 16,
    "queue_size": 8,
    "min_size": 96,
    "max_size": 160,
    "anchor_sizes": (24, 40),
    "aspect_ratios": (2.0,),
    "rpn_train_proposals": 40,
    "rpn_test_proposals": 20,
    "rpn_anchors_per_image": 32,
    "roi_size": (8, 4),
    "rois_per_image": 16,
}
APART = {"detection_hidden": 16, "detection_grid": (3, 2)}
COLORS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.1, 0.2, 0.9], [0.9, 0.9, 0.1]])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _model(**changes: Any) -> SeqNet:
    torch.manual_seed(0)
    settings = SETTINGS | changes
    shared = {f.name: settings.pop(f.name) for f in fields(RegionSettings) if f.name in settings}
    backbone = build_backbone("small", width=8)
    return SeqNet(backbone, 4, regions=RegionSettings(**shared), **settings)


def _scenes() -> tuple[list[Tensor], list[Target]]:
    """Four scenes with two rectangles each, a color an identity, and one without a name."""
    images, targets = [], []
    for k in range(4):
        image = torch.full((3, 96, 128), 0.5)
        boxes = torch.tensor([[12.0 + 6 * k, 20, 34 + 6 * k, 64], [76 + 4 * k, 30, 98 + 4 * k, 74]])
        ids = torch.tensor([k, (k + 1) % 4])
        for (x1, y1, x2, y2), i in zip(boxes.int().tolist(), ids.tolist(), strict=True):
            image[:, y1:y2, x1:x2] = COLORS[i][:, None, None]
        images.append(image)
        targets.append(Target(boxes, ids))
    targets[3] = Target(targets[3].boxes, torch.tensor([3, -1]))
    return images, targets


def _nobody() -> Target:
    return Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def _total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


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
    assert not model.second_score


def test_the_first_head_reads_a_maximum() -> None:
    model = _model().eval()
    images, targets = _scenes()
    view = model.look(images[:1])
    boxes = [targets[0].boxes]
    assert model.first_head is not None
    flat = model.first_head(model.pool(view, boxes)).amax(dim=(2, 3))
    logits, deltas = model._first(view, boxes)
    torch.testing.assert_close(logits, functional.linear(flat, *_weights(model.first.classifier)))
    torch.testing.assert_close(deltas, functional.linear(flat, *_weights(model.first.regressor)))


def _weights(layer: torch.nn.Linear) -> tuple[Tensor, Tensor]:
    return layer.weight, layer.bias


def test_the_second_head_sees_the_boxes_of_the_first() -> None:
    model = _model()
    images, targets = _scenes()
    seen: list[list[Tensor]] = []
    pool = model.pool
    model.pool = lambda view, boxes: (seen.append(boxes), pool(view, boxes))[1]  # type: ignore[method-assign]
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
    images, targets = _scenes()
    model(images, targets)
    losses = model(images, targets)
    _total({k: losses[k] for k in ("detection", "box", "oim")}).backward(retain_graph=True)
    assert all(p.grad is None for p in model.first.parameters())
    model.zero_grad()
    _total({k: losses[k] for k in ("proposal", "proposal_box")}).backward()
    assert all(p.grad is None for p in (*model.embedder.parameters(), *model.head.parameters()))


@pytest.mark.parametrize("second", [False, True])
def test_which_head_scores(second: bool) -> None:
    model = _model(second_score=second, score_threshold=0.0).eval()
    images, _ = _scenes()
    with torch.no_grad():
        model.first.classifier.bias.copy_(torch.tensor([0.0, 5.0]))
        model.embedder.norm_aware.rescale.bias.fill_(-5.0)
    scores = model.detect(images[:1])[0].scores
    assert (scores < 0.5).all() if second else (scores > 0.5).all()


def test_weights_scale_their_losses() -> None:
    images, targets = _scenes()
    results = []
    for changes in ({}, {"proposal_box_weight": 5.0, "second_weight": 0.5}):
        torch.manual_seed(7)
        results.append(_model(**changes)(images, targets))
    for name, factor in (("proposal_box", 0.5), ("detection", 0.5), ("box", 0.5), ("oim", 1.0)):
        assert results[1][name].item() == pytest.approx(results[0][name].item() * factor, rel=1e-4)


def test_search_with_the_people_around_the_query() -> None:
    """What the system detects in the query's own picture is all that context matching needs."""
    model = _model(score_threshold=0.0, max_detections=6).eval()
    images, targets = _scenes()
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
