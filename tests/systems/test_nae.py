"""NAE: the length of an embedding says person, its direction says who."""

import inspect
from typing import Any

import pytest
import torch
from drawn import REGIONS, build, scenes

from personsearch.detectors.backbones import build_backbone
from personsearch.detectors.faster_rcnn import SampledRegions
from personsearch.errors import ModelError
from personsearch.systems.nae import NAE, box_loss

SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "queue_size": 8,
    "roi_size": (8, 4),
}
APART = {"detection_hidden": 16, "detection_grid": (3, 2)}


def _model(**changes: Any) -> NAE:
    return build(NAE, SETTINGS | changes)


def test_the_published_network() -> None:
    model = NAE(build_backbone("resnet50"), 10)
    shapes = [tuple(p[0].weight.shape) for p in model.embedder.projections]
    assert shapes == [(128, 1024), (128, 2048)]
    assert [type(layer).__name__ for layer in model.regressor] == [
        "AdaptiveMaxPool2d",
        "Flatten",
        "Sequential",
    ]
    linear, norm = model.regressor[-1]
    assert linear.weight.shape == (4, 2048)
    # Vectors and boxes start small: both layers' weights are normal, 0.01.
    for layer in (linear, norm, *model.embedder.projections[1]):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=1.0)
    assert model.roi_size == (14, 14)
    assert model.transform.min_size == (900,)
    assert model.transform.max_size == 1500
    assert len(model.proposals.anchor_generator.sizes[0]) == 5
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(NAE.__init__).parameters.items()
    }
    assert defaults["box_weight"] == 10.0
    assert defaults["oim_temperature"] == 1 / 30
    assert model.confidence_weighted


def test_a_score_is_the_length_of_the_embedding() -> None:
    model = _model(score_threshold=0.0, nms_iou=0.99).eval()
    images, _ = scenes(unlabelled=True)
    maps = model.extract_features(images[:1])
    proposals = model.propose(maps).boxes
    pooled = model.pool(maps, proposals)
    flat = [f.amax(dim=(2, 3)) for f in (pooled, model.head(pooled))]
    halves = [p(f) for p, f in zip(model.embedder.projections, flat, strict=True)]
    lengths = torch.cat(halves, dim=1).norm(dim=1)
    found = model.detect(images[:1])[0]
    scores = model.embedder.norm_aware.rescale(lengths[:, None]).sigmoid()[:, 0]
    best = scores.sort(descending=True).values[: len(found)]
    torch.testing.assert_close(torch.tensor(found.scores), best.detach())


def test_the_box_loss_is_an_average_over_background_too() -> None:
    torch.manual_seed(0)
    deltas, truth = torch.randn(6, 4), torch.randn(6, 4)
    person = torch.tensor([True, False, True, False, False, True])
    regions = SampledRegions([], person, torch.zeros(6), torch.zeros(6), truth)
    for beta in (1.0, 0.2):
        expected = 0.0
        for k in (0, 2, 5):
            for d in (deltas[k].double() - truth[k].double()).abs().tolist():
                expected += d * d / (2 * beta) if d < beta else d - beta / 2
        assert box_loss(deltas, regions, beta).item() == pytest.approx(expected / 6, rel=1e-5)


@pytest.mark.parametrize(("background", "left"), [(0.1, [0.0, 1.0]), (0.5, [0.0, 0.3, 1.0])])
def test_what_is_neither_person_nor_background(background: float, left: list[float]) -> None:
    """A box of which 3 tenths overlap the person is in no loss, as published."""
    model = _model(background_iou=background)
    person = torch.tensor([[10.0, 10.0, 20.0, 30.0]])
    aside = torch.tensor([[10.0, 10.0, 13.0, 30.0], [60.0, 60.0, 80.0, 90.0]])
    regions = model.sampler([aside], [person], [torch.tensor([2])])
    (boxes,) = regions.boxes
    wide = boxes[boxes[:, 0] < 50]
    overlaps = ((wide[:, 2] - wide[:, 0]) / 10).tolist()
    assert sorted([0.0, *overlaps]) == pytest.approx(left)
    assert regions.foreground.sum() == 1


@pytest.mark.parametrize("value", [0.0, 0.6])
def test_a_background_that_cannot_be_is_named(value: float) -> None:
    with pytest.raises(ModelError, match=f"background_iou is {value}, expected above 0 and at"):
        _model(background_iou=value)


def test_only_the_head_and_the_map_say_who_it_is() -> None:
    """The box regressor has layers of its own when asked to; the embedding never sees them."""
    model = _model(**APART)
    images, targets = scenes(unlabelled=True)
    model(images, targets)
    model(images, targets)["oim"].backward()
    assert all(p.grad is None for p in model.regressor.parameters())
    assert all(p.grad is not None for p in model.embedder.projections.parameters())
    # The identity's loss does not see the length, so it does not move its rescaling.
    assert all(p.grad is None for p in model.embedder.norm_aware.parameters())


def test_the_person_loss_reaches_the_whole_vector() -> None:
    """One vector for two tasks: there is no other person classifier."""
    model = _model(**APART)
    images, targets = scenes(unlabelled=True)
    model(images, targets)["detection"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.embedder.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.head.parameters())


def test_embeddings_of_proposals_or_of_final_boxes() -> None:
    images, _ = scenes(unlabelled=True)
    for embed_boxes in (False, True):
        model = _model(embed_boxes=embed_boxes, score_threshold=0.0, max_detections=5).eval()
        # Deltas that move every box, so that a box and its proposal look different.
        with torch.no_grad():
            model.regressor[-1][1].bias.fill_(1.0)
        found = model.detect(images[:1])[0]
        (again,) = model.embed(images[:1], [torch.tensor(found.boxes)])
        same = torch.isclose(again, torch.tensor(found.embeddings), atol=1e-4).all(dim=1)
        assert bool(same.all()) is embed_boxes
