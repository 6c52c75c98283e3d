"""Xiao 2016 end to end on small drawn pictures, and what the paper says of its gradients."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import COLORS, REGIONS, build, scenes, total
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_pool

from personsearch.detectors.backbones import build_backbone
from personsearch.detectors.faster_rcnn import fully_connected
from personsearch.errors import ModelError
from personsearch.losses.rss import random_sampling_softmax
from personsearch.losses.softmax import softmax_loss
from personsearch.systems.base import Target
from personsearch.systems.xiao2016 import PAPER_REGIONS, Xiao2016, load_fully_connected
from personsearch.types import BACKGROUND

PROPOSALS = {"rpn_objectness", "rpn_box"}
LOSSES = PROPOSALS | {"box", "identity"}
CLASSIFIED = {"detection_score": "classifier"}
APART = CLASSIFIED | {"detection_hidden": 16, "detection_grid": (3, 2)}
COSINES = {"identity_scale": 16.0, "embedding_grid": (4, 1), "hidden": 0}
KINDS: dict[str, dict[str, Any]] = {
    "as published": {},
    "softmax": {"identity_loss": "softmax"},
    "RoIAlign": {"roi_pooling": "align"},
    "scored by identity": {"detection_score": "identity"},
    "classified": CLASSIFIED,
    "apart": APART | COSINES,
}
SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "hidden": 24,
    "embedding_grid": (3, 2),
    "rss_sampled": 3,
    "roi_size": (6, 4),
}
each = pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)


FIRST = {"rpn_objectness": 0.689215, "rpn_box": 0.0572987, "box": 0.956305, "identity": 1.05416}
SECOND = {"rpn_objectness": 0.687838, "rpn_box": 0.0527423, "box": 0.751243, "identity": 1.05046}


def _model(**changes: Any) -> Xiao2016:
    return build(Xiao2016, SETTINGS | changes)


def _crops() -> tuple[list[Tensor], list[Target]]:
    """A crop of each identity and one of background."""
    images = [color[:, None, None].expand(3, 48, 24).clone() for color in COLORS]
    images.append(torch.full((3, 48, 24), 0.5))
    whole = torch.tensor([[0.0, 0, 24, 48]])
    return images, [Target(whole, torch.tensor([i])) for i in (0, 1, 2, 3, BACKGROUND)]


def _named(changes: dict[str, Any]) -> set[str]:
    return LOSSES | ({"detection"} if changes.get("detection_score") == "classifier" else set())


def test_defaults_are_the_papers() -> None:
    backbone = build_backbone("small", width=4)
    model = Xiao2016(backbone, 3, hidden=4)
    assert (model.identity_loss, model.rss_sampled, model.embedding_dim) == ("rss", 100, 256)
    assert (model.roi_pooling, model.roi_size, model.embedding_grid) == ("max", (7, 7), (7, 7))
    assert model.detection_score == "proposal"
    assert model.classifier.weight.shape == (4, 256)
    assert len(PAPER_REGIONS.anchor_sizes) * len(PAPER_REGIONS.aspect_ratios) == 9
    assert model.proposals.anchor_generator.num_anchors_per_location() == [9]
    convolution = model.proposals.head.conv[0][0]
    assert convolution.kernel_size == (3, 3)


def test_the_published_layers_on_vgg16() -> None:
    model = Xiao2016(build_backbone("vgg16"), 2, hidden=8)
    assert model.fc6_7[0].in_features == 512 * 7 * 7
    assert model.proposals.head.conv[0][0].weight.shape == (512, 512, 3, 3)
    assert model.stride == 16
    losses = model.classifier_losses(
        [torch.rand(3, 64, 64), torch.rand(3, 64, 64)],
        [Target(torch.tensor([[0.0, 0, 64, 64]]), torch.tensor([i])) for i in (1, BACKGROUND)],
    )
    assert torch.isfinite(losses["softmax"])


@each
def test_identity_gradients_do_not_reach_box_coordinates(changes: dict[str, Any]) -> None:
    """Footnote 2: they reach the shared map, never the proposals or the box regression."""
    model = _model(**changes)
    losses = model(*scenes())
    losses["identity"].backward(retain_graph=True)
    for part in (model.proposals, model.box_predictor):
        assert all(p.grad is None for p in part.parameters())
    for part in (model.stem, model.head, model.fc6_7, model.fc8, model.classifier):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    model.zero_grad()
    losses["box"].backward()
    assert all(p.grad is None for p in model.proposals.parameters())


def test_boxes_carry_no_gradient_where_they_are_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    for pooling in ("max", "align"):
        model, given = _model(roi_pooling=pooling), []
        pool = model.pool
        monkeypatch.setattr(model, "pool", lambda v, b, p=pool, g=given: g.extend(b) or p(v, b))
        model(*scenes())
        assert len(given) == 4
        assert not any(box.requires_grad for box in given)


def test_regions_are_ids_background_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets = scenes()
    targets[0] = Target(targets[0].boxes, torch.tensor([-1, 1]))
    for least, counts in ((0.5, (4, 28)), (0.7, (3, 21)), (1.01, (0, 0))):
        model = _model(reid_min_iou=least)
        # Of each person: the box twice, moved by 2 (IoU 0.76), by 5 (0.52), and far away.
        near = [torch.cat([t.boxes, t.boxes + 2, t.boxes + 5, t.boxes + 200]) for t in targets]
        forward = model.proposals.forward
        monkeypatch.setattr(
            model.proposals, "forward", lambda *a, f=forward, n=near: replace(f(*a), boxes=n)
        )
        maps = model.extract_features(images)
        boxes, ids = model.scale(maps, targets)
        regions = model.detection_step(maps, boxes, ids).regions
        classes = model.classes(regions)
        assert (classes[~regions.foreground] == 4).all()
        assert (classes == 4).sum() == 8
        unlabelled = regions.foreground & (regions.ids < 0)
        assert unlabelled.sum() == 4
        assert (classes[unlabelled] == -1).all()
        assert (classes[:10] == 1).sum() == counts[0]
        assert ((classes >= 0) & (classes < 4)).sum() == counts[1]


@pytest.mark.parametrize("scale", [0.0, 8.0])
@pytest.mark.parametrize("kind", ["rss", "softmax"])
def test_the_identity_loss_is_of_scores_or_of_cosines(kind: str, scale: float) -> None:
    model = _model(identity_loss=kind, identity_scale=scale)
    fc8, classes = torch.randn(6, 16), torch.tensor([0, 4, -1, 2, 4, 3])
    layer = model.classifier
    if scale:
        assert layer.bias is None
        unit = functional.normalize(fc8, dim=1), functional.normalize(layer.weight, dim=1)
        scores = scale * unit[0] @ unit[1].t()
    else:
        scores = fc8 @ layer.weight.t() + layer.bias
    torch.manual_seed(3)
    value = model._identity_loss(fc8, classes)
    torch.manual_seed(3)
    if kind == "rss":
        expected = random_sampling_softmax(scores, classes, 3)
    else:
        expected = softmax_loss(scores, classes)
    torch.testing.assert_close(value, expected)


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
        assert torch.tensor(one.embeddings).norm(dim=1).allclose(torch.ones(len(one)))
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


def test_what_a_detection_is_ranked_by() -> None:
    images = [torch.rand(3, 96, 128)]
    scores = {}
    for kind in ("proposal", "identity", "classifier"):
        model = _model(detection_score=kind, score_threshold=0.0, nms_iou=1.0).eval()
        maps = model.extract_features(images)
        found = model.propose(maps)
        proposals, expected = found.boxes, found.scores
        assert (expected[0][:-1] >= expected[0][1:]).all()
        assert expected[0].shape == (len(proposals[0]),)
        fc7 = model.run_head(model.pool(maps, proposals))
        if kind == "identity":
            expected = [1 - model._logits(model.fc8(fc7.flatten(1))).softmax(dim=1)[:, -1]]
        elif kind == "classifier":
            expected = [model.predict(fc7)[0].softmax(dim=1)[:, 1]]
        scores[kind] = torch.tensor(model.detect(images)[0].scores)
        ranked = expected[0].sort(descending=True).values[: len(scores[kind])]
        torch.testing.assert_close(scores[kind], ranked.detach())
    assert not torch.equal(scores["proposal"], scores["identity"])


def test_regions_are_pooled_by_their_largest_value() -> None:
    model = _model()
    maps = model.extract_features([torch.rand(3, 96, 128)])
    boxes = [torch.tensor([[3.0, 5, 100, 90]])]
    expected = roi_pool(maps.features, boxes, (6, 4), 1 / 8)
    assert torch.equal(model.pool(maps, boxes), expected)


def test_crops_are_seen_at_their_own_size() -> None:
    model = _model().eval()
    images, targets = _crops()
    value = model.classifier_losses(images, targets)
    assert value.keys() == {"softmax"}
    # One by one, as pictures that are not scaled.
    logits = []
    model.transform.min_size, model.transform.max_size = (24,), 48
    for image, target in zip(images, targets, strict=True):
        # The batch is padded to a multiple of 32 pixels, a crop is not: the map is cut out.
        features = model.stem(model.transform.normalize(image)[None])
        pooled = roi_pool(features, [target.boxes], (6, 4), 1 / 8)
        logits.append(model.classifier(model.fc8(model.run_head(pooled).flatten(1))))
    expected = functional.cross_entropy(torch.cat(logits), torch.arange(5))
    torch.testing.assert_close(value["softmax"], expected)


def test_crops_train_all_but_the_detector() -> None:
    model = _model(**APART)
    model.classifier_losses(*_crops())["softmax"].backward()
    trained = {id(p) for p in model.classifier_parameters()}
    for name, parameter in model.named_parameters():
        detects = name.startswith(("proposals.", "box_predictor."))
        assert (parameter.grad is None) is detects, name
        assert (id(parameter) not in trained) is detects, name


def test_crops_teach_who_is_who() -> None:
    model = _model()
    optimizer = torch.optim.Adam(model.classifier_parameters(), 1e-3)
    for _ in range(30):
        loss = model.classifier_losses(*_crops())["softmax"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_canvases_have_a_loss_where_the_softmax_reads_cosines() -> None:
    images, targets = scenes()
    losses = _model(**COSINES).crop_losses(images, targets)
    assert losses.keys() == {"identity"}
    assert torch.isfinite(losses["identity"])
    losses = _model(crop_loss="softmax", crop_detection=True).crop_losses(images, targets)
    assert losses.keys() == PROPOSALS | {"box", "softmax"}
    with pytest.raises(ModelError, match="Xiao2016 has no identity loss of its own for the crop"):
        _model().crop_losses(images, targets)


def _vgg16_file(tmp_path: Path, **changes: Tensor) -> tuple[str, dict[str, Tensor]]:
    shapes = {"0.weight": (4, 18), "0.bias": (4,), "3.weight": (4, 4), "3.bias": (4,)}
    state = {f"classifier.{name}": torch.rand(shape) for name, shape in shapes.items()}
    save_file(state | changes, tmp_path / "vgg16.safetensors")
    return str(tmp_path / "vgg16.safetensors"), state


def test_fc6_and_fc7_start_from_published_ones(tmp_path: Path) -> None:
    path, state = _vgg16_file(tmp_path)
    layers, _ = fully_connected(18, 4)
    load_fully_connected(layers, path)
    for ours, theirs in (("0", "0"), ("2", "3")):
        for kind in ("weight", "bias"):
            expected = state[f"classifier.{theirs}.{kind}"]
            assert torch.equal(layers.state_dict()[f"{ours}.{kind}"], expected)


def test_published_layers_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    path, _ = _vgg16_file(tmp_path)
    for width, hidden in ((17, 4), (18, 5), (18, 0)):
        with pytest.raises(ModelError, match=r"do not fit fc6 and fc7: .* they need backbone 'vgg"):
            load_fully_connected(fully_connected(width, hidden)[0], path)
    save_file({"features.0.bias": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"do not fit fc6 and fc7: 'classifier\.0\.weight'"):
        _model(fc_weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(ModelError, match="no such weights file"):
        _model(fc_weights=str(tmp_path / "absent.pth"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rss_sampled": 1}, "rss_sampled is 1, expected at least 2"),
        ({"detection_hidden": 8}, "detection_hidden is 8, but with detection_score 'proposal'"),
        ({"embedding_grid": (0, 1)}, "embedding_grid is .*, expected two positive numbers"),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _model(**changes)


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
