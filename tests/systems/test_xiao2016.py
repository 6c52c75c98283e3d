"""Xiao 2016 end to end on small drawn pictures, and what the paper and the authors' code say."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from drawn import COLORS, REGIONS, build, scenes, total
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_pool

from personsearch.detectors.backbones import Backbone, build_backbone
from personsearch.errors import ModelError
from personsearch.losses.rss import random_sampling_softmax
from personsearch.losses.softmax import softmax_loss
from personsearch.systems.base import Target
from personsearch.systems.xiao2016 import PAPER_REGIONS, Xiao2016
from personsearch.types import BACKGROUND

LOSSES = {"rpn_objectness", "rpn_box", "box", "identity"}
KINDS: dict[str, dict[str, Any]] = {
    "as published": {},
    "softmax": {"identity_loss": "softmax"},
    "RoIAlign, without dropout": {"roi_pooling": "align", "dropout": 0.0},
}
SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "rss_sampled": 3,
    "roi_size": (6, 4),
    "score_threshold": 0.05,
    "roi_positive_fraction": 0.25,
}
each = pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)


FIRST = {"rpn_objectness": 0.6956, "rpn_box": 0.0510396, "box": 0.102037, "identity": 1.08146}
SECOND = {"rpn_objectness": 0.692832, "rpn_box": 0.0482053, "box": 0.0944302, "identity": 1.07811}


def _model(**changes: Any) -> Xiao2016:
    return build(Xiao2016, SETTINGS | changes)


@pytest.fixture(scope="module")
def vgg() -> Xiao2016:
    """The published network, but for fc6 and fc7 of 4096, which are slow."""
    torch.manual_seed(0)
    backbone = build_backbone("vgg16", frozen_stages=10)
    narrow: dict[str, nn.Module] = {
        "fc6": nn.Linear(512 * 7 * 7, 8),
        "fc7": nn.Linear(8, 8),
        "cell": nn.Unflatten(1, (8, 1, 1)),
    }
    head = nn.Sequential(*(narrow.get(n, m) for n, m in backbone.head.named_children()))
    return Xiao2016(replace(backbone, head=head, head_channels=8), 4)


def _crops() -> tuple[list[Tensor], list[Target]]:
    """A crop of each identity and one of background."""
    images = [color[:, None, None].expand(3, 48, 24).clone() for color in COLORS]
    images.append(torch.full((3, 48, 24), 0.5))
    whole = torch.tensor([[0.0, 0, 24, 48]])
    return images, [Target(whole, torch.tensor([i])) for i in (0, 1, 2, 3, BACKGROUND)]


def test_defaults_are_the_papers() -> None:
    model = Xiao2016(build_backbone("small", width=4), 3)
    assert (model.num_sampled, model.embedding_dim, model.dropout) == (100, 256, 0.5)
    assert (model.roi_pooling, model.roi_size, model.metric) == ("max", (7, 7), "euclidean")
    assert not model.embed_boxes
    assert not model.confidence_weighted
    assert model.classifier.weight.shape == (4, 256)
    assert len(PAPER_REGIONS.anchor_sizes) * len(PAPER_REGIONS.aspect_ratios) == 9
    assert model.proposals.anchor_generator.num_anchors_per_location() == [9]
    assert model.proposals.head.conv[0][0].kernel_size == (3, 3)


def test_what_the_authors_code_sets(vgg: Xiao2016) -> None:
    """Of branch v1: config.py and train.yml, train.prototxt, test_gallery.py."""
    settings = PAPER_REGIONS
    assert (settings.min_size, settings.max_size) == (600, 1000)
    assert (settings.rois_per_image, settings.roi_positive_fraction) == (128, 0.25)
    assert (settings.rpn_post_nms_top_n_train, settings.rpn_post_nms_top_n_test) == (2000, 300)
    assert settings.rpn_pre_nms_top_n_train == 12000
    assert (settings.score_threshold, settings.nms_iou) == (0.05, 0.4)
    assert settings.max_detections == 100
    assert settings.sample_true_boxes
    proposals = vgg.proposals
    assert (proposals.min_size, proposals.nms_thresh, proposals.inside) == (16.0, 0.7, True)
    assert proposals.proposal_matcher.high_threshold == 0.7
    assert proposals.proposal_matcher.low_threshold == 0.3
    assert vgg.sampler.coder.weights == (10.0, 10.0, 5.0, 5.0)


def test_the_published_layers_on_vgg16(vgg: Xiao2016) -> None:
    assert vgg.proposals.head.conv[0][0].weight.shape == (512, 512, 3, 3)
    assert vgg.stride == 16
    frozen = [name for name, p in vgg.stem.named_parameters() if not p.requires_grad]
    assert frozen == [f"{k}.{kind}" for k in (0, 2, 5, 7) for kind in ("weight", "bias")]
    losses = vgg.classifier_losses(
        [torch.rand(3, 64, 64), torch.rand(3, 64, 64)],
        [Target(torch.tensor([[0.0, 0, 64, 64]]), torch.tensor([i])) for i in (1, BACKGROUND)],
    )
    assert torch.isfinite(losses["softmax"])


def test_first_weights_are_normal() -> None:
    """fc8 and the proposal network .01, the classifier and the boxes .001, zero biases."""
    backbone = Backbone(nn.Sequential(), nn.Sequential(), 64, 2048, 16)
    model = Xiao2016(backbone, 500)
    for layer, std in (
        (model.fc8, 0.01),
        (model.classifier, 0.001),
        (model.box_predictor.regressor, 0.001),
        (model.proposals.head.conv[0][0], 0.01),
        (model.proposals.head.bbox_pred, 0.01),
    ):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.1)
        assert not layer.bias.any()


@each
def test_the_losses_are_four_and_reach_every_weight(changes: dict[str, Any]) -> None:
    model = _model(**changes)
    losses = model(*scenes(unlabelled=True))
    assert losses.keys() == LOSSES
    total(losses).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@each
def test_identity_gradients_do_not_reach_box_coordinates(changes: dict[str, Any]) -> None:
    """Footnote 2: they reach the shared map, never the proposals or the box regression."""
    model = _model(**changes)
    losses = model(*scenes())
    losses["identity"].backward(retain_graph=True)
    for part in (model.proposals, model.box_predictor):
        assert all(p.grad is None for p in part.parameters())
    for part in (model.stem, model.head, model.fc8, model.classifier):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    model.zero_grad()
    losses["box"].backward()
    assert all(p.grad is None for p in model.proposals.parameters())


def test_boxes_carry_no_gradient_where_they_are_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    for pooling in ("max", "align"):
        model, given = _model(roi_pooling=pooling), []
        regions = model.regions
        monkeypatch.setattr(model, "regions", lambda b, r=regions, g=given: g.extend(b) or r(b))
        model(*scenes())
        assert len(given) == 4
        assert not any(box.requires_grad for box in given)


def _step(model: Xiao2016) -> Any:
    """A training step with everyone's box, moved by 2 (IoU 0.76), and far away."""
    images, targets = scenes()
    targets[0] = Target(targets[0].boxes, torch.tensor([-1, 1]))
    near = [torch.cat([t.boxes, t.boxes + 2, t.boxes + 200]) for t in targets]
    forward = model.proposals.forward
    model.proposals.forward = lambda *a: replace(forward(*a), boxes=near)  # type: ignore[method-assign]
    maps = model.extract_features(images)
    return model.detection_step(maps, *model.scale(maps, targets))


def test_regions_are_ids_background_or_unlabelled(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = _model(roi_positive_fraction=1.0, dropout=0.0), {}

    def spy(scores: Tensor, classes: Tensor, count: int) -> Tensor:
        seen.update(scores=scores, classes=classes, count=count)
        return scores.sum()

    monkeypatch.setattr("personsearch.systems.xiao2016.random_sampling_softmax", spy)
    step = _step(model)
    model.identity_losses(step)
    regions, classes = step.regions, seen["classes"]
    # Two people in four pictures, three times each: the box, the proposal on it and one beside it.
    assert len(classes) == len(seen["scores"]) == 4 * 2 * 4
    assert (classes[~regions.foreground] == 4).all()
    assert (classes == 4).sum() == 8
    assert (classes == -1).sum() == 3
    assert torch.equal(classes[regions.foreground], regions.ids[regions.foreground])
    assert seen["count"] == 3


def test_softmax_is_over_every_class() -> None:
    assert _model(identity_loss="softmax").num_sampled == 5


def test_the_identity_loss_is_of_scores_of_fc8() -> None:
    model = _model(dropout=0.0)
    step = _step(model)
    fc8, layer = model.run_fc8(step.features), model.classifier
    assert (fc8 >= 0).all()
    scores = fc8 @ layer.weight.t() + layer.bias
    classes = torch.where(step.regions.foreground, step.regions.ids, 4)
    torch.manual_seed(3)
    value = model.identity_losses(step)["identity"]
    torch.manual_seed(3)
    torch.testing.assert_close(value, random_sampling_softmax(scores, classes, 3))


def test_boxes_are_learned_with_a_beta_of_one() -> None:
    """Smooth L1 of sigma 1, over all regions; background boxes have no part in the sum."""
    model = _model()
    step = _step(model)
    person = step.regions.foreground
    error = (step.deltas - step.regions.deltas)[person].abs()
    expected = torch.where(error < 1, 0.5 * error**2, error - 0.5).sum() / len(person)
    torch.testing.assert_close(step.losses["box"], expected)


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_is_in_the_losses_whatever_the_mode(
    vgg: Xiao2016, mode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps on the same regions differ; what is detected and embedded does not."""
    monkeypatch.setattr(vgg.transform, "min_size", (64,))
    vgg.train(mode)
    images, boxes = [torch.rand(3, 64, 64)], [torch.tensor([[4.0, 4, 40, 60]])]
    maps = vgg.extract_features(images)
    plain = vgg.roi_features(maps, boxes)
    dropped = vgg.roi_features(maps, boxes, dropout=0.5)
    # fc7 by hand: each ReLU's output is doubled or zero.
    torch.manual_seed(4)
    fc7 = dropped.deep.flatten(1)
    torch.manual_seed(4)
    layers = dict(vgg.head.named_children())
    x = layers["0"](plain.pooled)
    for name in ("1", "2", "3"):
        x = layers[name](x)
    x = functional.dropout(x, 0.5)
    x = functional.dropout(layers["5"](layers["4"](x)), 0.5)
    assert torch.equal(fc7, x)
    torch.manual_seed(5)
    fc8 = vgg.run_fc8(dropped)
    undropped = torch.relu(vgg.fc8(fc7))
    assert torch.equal(fc8, torch.where(fc8 == 0, 0, 2 * undropped))
    (first,), (second,) = vgg.embed(images, boxes), vgg.embed(images, boxes)
    assert torch.equal(first, second)
    crops, targets = _crops()
    few = crops[:1], targets[:1]  # of 224 x 224 pixels
    values = {vgg.classifier_losses(*few)["softmax"].item() for _ in range(5)}
    assert len(values) > 1


def test_a_step_draws_its_own_dropout() -> None:
    """On regions that are sampled whole, RSS over all classes and dropout alone are random."""
    for dropout in (0.0, 0.5):
        model = _model(dropout=dropout, identity_loss="softmax", roi_positive_fraction=1.0).eval()
        step = _step(model)
        values = [model.identity_losses(step)["identity"].item() for _ in range(2)]
        assert (values[0] == values[1]) is (dropout == 0.0)


@each
@pytest.mark.parametrize("embed_boxes", [False, True])
def test_detections_are_sorted_and_in_the_pictures_own_pixels(
    changes: dict[str, Any], embed_boxes: bool
) -> None:
    model = _model(**changes, embed_boxes=embed_boxes, score_threshold=0.0, max_detections=7)
    torch.manual_seed(1)
    images = [torch.rand(3, 48, 64), torch.rand(3, 300, 200), torch.rand(3, 96, 128)]
    found = model.eval().detect(images)
    for image, one in zip(images, found, strict=True):
        height, width = image.shape[1:]
        assert 0 < len(one) <= 7
        assert (one.scores[:-1] >= one.scores[1:]).all()
        assert one.boxes.min() >= 0
        assert one.boxes[:, 2].max() <= width + 1e-3
        assert one.boxes[:, 3].max() <= height + 1e-3
        assert one.embeddings.shape == (len(one), 16)
        assert (one.embeddings >= 0).all()
        assert not np.allclose(np.linalg.norm(one.embeddings, axis=1), 1)
    # Pixels of the large picture, not those of the batch, where no side exceeds 160.
    assert found[1].boxes[:, 3].max() > 160


@each
def test_each_row_has_its_own_embedding(changes: dict[str, Any]) -> None:
    """Where boxes are not moved, a proposal is the box that `embed` is given."""
    model = _model(**changes, score_threshold=0.0).eval()
    nn.init.zeros_(model.box_predictor.regressor.weight)
    images = [torch.rand(3, 96, 128), torch.rand(3, 120, 96), torch.rand(3, 48, 70)]
    found = model.detect(images)
    assert len({len(one) for one in found}) > 1
    boxes = [torch.tensor(one.boxes) for one in found]
    for one, expected in zip(found, model.embed(images, boxes), strict=True):
        # RoI pooling rounds the coordinates, which were scaled to and fro: a few rows may jump.
        near = (torch.tensor(one.embeddings) - expected).abs().amax(dim=1) < 1e-4
        assert near.float().mean() >= (1.0 if model.roi_pooling == "align" else 0.8)


def test_a_score_is_one_minus_the_probability_of_background() -> None:
    model = _model(score_threshold=0.0, nms_iou=1.0).eval()
    images = [torch.rand(3, 96, 128)]
    maps = model.extract_features(images)
    features = model.roi_features(maps, model.propose(maps).boxes)
    fc7 = functional.adaptive_avg_pool2d(features.deep, 1).flatten(1)
    scores = model.classifier(torch.relu(model.fc8(fc7)))
    expected = 1 - scores.exp()[:, 4] / scores.exp().sum(dim=1)
    found = torch.tensor(model.detect(images)[0].scores)
    torch.testing.assert_close(found, expected.sort(descending=True).values.detach())


def test_regions_are_pooled_by_their_largest_value() -> None:
    model = _model()
    maps = model.extract_features([torch.rand(3, 96, 128)])
    boxes = [torch.tensor([[3.0, 5, 100, 90]])]
    expected = roi_pool(maps.features, boxes, (6, 4), 1 / 8)
    assert torch.equal(model.pool(maps, boxes), expected)


def test_a_crop_is_pooled_as_vgg16_does(vgg: Xiao2016, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 x 2 cells of the 14 x 14 of a crop of 224 x 224 pixels; then fc6, fc7, fc8, eq. 1."""
    monkeypatch.setattr(vgg, "dropout", 0.0)
    crop = torch.rand(3, 224, 224)
    whole = torch.tensor([[0.0, 0, 224, 224]])
    value = vgg.classifier_losses([crop], [Target(whole, torch.tensor([1]))])["softmax"]
    pool5 = functional.max_pool2d(vgg.stem(vgg.transform.normalize(crop)[None]), 2)
    scores = vgg.classifier(torch.relu(vgg.fc8(vgg.head(pool5).flatten(1))))
    torch.testing.assert_close(value, softmax_loss(scores, torch.tensor([1])))


def test_crops_train_all_but_the_detector() -> None:
    model = _model()
    model.classifier_losses(*_crops())["softmax"].backward()
    trained = {id(p) for p in model.classifier_parameters()}
    for name, parameter in model.named_parameters():
        detects = name.startswith(("proposals.", "box_predictor."))
        assert (parameter.grad is None) is detects, name
        assert (id(parameter) not in trained) is detects, name


def test_crops_teach_who_is_who() -> None:
    model = _model(dropout=0.0)
    optimizer = torch.optim.Adam(model.classifier_parameters(), 1e-3)
    for _ in range(80):
        loss = model.classifier_losses(*_crops())["softmax"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3


def test_one_class_is_too_few() -> None:
    with pytest.raises(ModelError, match="rss_sampled is 1, expected at least 2"):
        _model(rss_sampled=1)


def test_a_step_is_pinned() -> None:
    """Two sums of losses around one step; a change here is a changed result."""
    model = _model()
    images, targets = scenes()
    targets[3] = Target(targets[3].boxes, torch.tensor([3, -1]))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    torch.manual_seed(1)
    losses = model(images, targets)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(FIRST, rel=1e-3, abs=1e-5)
    total(losses).backward()
    optimizer.step()
    losses = model(images, targets)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(SECOND, rel=1e-3, abs=1e-5)
