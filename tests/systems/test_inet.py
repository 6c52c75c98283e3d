"""I-Net end to end on small drawn pictures: its losses, its detections, its shared layers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from drawn import REGIONS, build, scenes, total
from torch import Tensor, nn
from torchvision.ops import box_iou, roi_align, roi_pool

from personsearch.detectors.backbones import build_backbone
from personsearch.systems.inet import PAPER_REGIONS, INet
from personsearch.systems.xiao2016 import Xiao2016

DETECTION = {"rpn_objectness", "rpn_box", "detection", "box"}
APART = {"detection_hidden": 16, "detection_grid": (3, 2)}
SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "embedding_grid": (3, 2),
    "dropout": 0.0,
    "dictionary_size": 64,
    "priority_classes": 5,
    "roi_size": (6, 4),
    "identity_loss": "hep",
}


def _model(**changes: Any) -> INet:
    backbone = changes.pop("backbone", "small")
    return build(INet, SETTINGS | changes, backbone)


def test_a_picture_alone_has_no_pair() -> None:
    model = _model()
    images, targets = scenes()
    model(images, targets)
    losses = model(images[:1], targets[:1])
    assert losses["olp"].item() == 0.0
    assert losses["hep"].item() > 0.0


def test_is_the_papers_network() -> None:
    """VGG16's fc6 and fc7 on RoI pooling, a 256-d embedding, nine anchors, OLP and HEP."""
    with torch.device("meta"):
        model = INet(build_backbone("vgg16"), 5)
    assert [layer.weight.shape for layer in model.head if isinstance(layer, nn.Linear)] == [
        (4096, 512 * 7 * 7),
        (4096, 4096),
    ]
    assert (model.roi_pooling, model.roi_size, model.dropout) == ("max", (7, 7), 0.5)
    assert model.py_faster_rcnn
    assert (model.embedder.in_features, model.embedder.out_features) == (4096, 256)
    assert model.box_predictor.classifier.in_features == 4096
    assert model.proposals.head.cls_logits.out_channels == 9
    assert model.proposals.head.conv[0][0].weight.shape == (512, 512, 3, 3)
    assert model.reid.classifier is not None
    assert model.reid.classifier.weight.shape == (5 + 1, 256)
    assert len(model.reid.dictionary.values) == 5120


def test_128_proposals_are_sampled_without_true_boxes() -> None:
    """Section 3.1, and shares of py-faster-rcnn."""
    assert (PAPER_REGIONS.rpn_post_nms_top_n_train, PAPER_REGIONS.rois_per_image) == (128, 128)
    assert not PAPER_REGIONS.sample_true_boxes
    model = _model(sample_true_boxes=False, rois_per_image=64, roi_positive_fraction=1.0)
    images, targets = scenes()
    maps = model.extract_features(images)
    boxes, ids = model.scale(maps, targets)
    proposed = model.propose(maps, boxes).boxes
    sampled = model.detection_step(maps, boxes, ids).regions.boxes
    for some, every in zip(sampled, proposed, strict=True):
        assert all((every == box).all(dim=1).any() for box in some)


def test_a_checkpoint_of_xiao_2016_starts_all_that_both_have() -> None:
    """Section 5.1.1."""
    with torch.device("meta"):
        first = Xiao2016(build_backbone("vgg16"), 7).state_dict()
        model = INet(build_backbone("vgg16"), 5).state_dict()
    taken = {k for k, v in model.items() if k in first and first[k].shape == v.shape}
    parts = {name.split(".")[0] for name in taken}
    assert parts == {"stem", "proposals", "head", "box_predictor"}
    assert {k for k in first if k.split(".")[0] in parts} == taken
    left = {name.rpartition(".")[0] for name in model.keys() - taken}
    assert left == {"box_predictor.classifier", "embedder", "reid.classifier", "reid.dictionary"}


@pytest.mark.parametrize("kind", ["max", "align"])
def test_regions_are_pooled_as_asked(kind: str) -> None:
    model = _model(roi_pooling=kind, roi_size=(3, 2))
    maps = model.extract_features([torch.rand(3, 96, 128)])
    boxes = [torch.tensor([[3.0, 5, 60, 90]])]
    if kind == "max":
        expected = roi_pool(maps.features, boxes, (3, 2), 1 / 8)
    else:
        expected = roi_align(maps.features, boxes, (3, 2), 1 / 8, 2, aligned=False)
    assert torch.equal(model.pool(maps, boxes), expected)
    assert model.pool(maps, boxes, (5, 4)).shape == (1, 32, 5, 4)
    other = "align" if kind == "max" else "max"
    assert not torch.equal(model.pool(maps, boxes, pooling=other), expected)


@pytest.mark.parametrize(("changes", "shared"), [({}, True), (APART, False)])
def test_both_tasks_read_the_same_layers(changes: dict[str, object], shared: bool) -> None:
    model = _model(**changes)
    images, targets = scenes()
    model(images, targets)
    losses = model(images, targets)
    reid = losses.pop("olp") + losses.pop("hep")
    total(losses).backward(retain_graph=True)
    for part in (model.stem, model.box_predictor, model.proposals):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all((p.grad is not None) is shared for p in model.head.parameters())
    assert all(p.grad is None for p in model.embedder.parameters())
    model.zero_grad()
    reid.backward()
    for part in (model.stem, model.head, model.embedder):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    for part in (model.box_predictor, model.proposals):
        assert all(p.grad is None for p in part.parameters())


@pytest.mark.parametrize("apart", [{}, APART])
@pytest.mark.parametrize("embed_boxes", [False, True])
def test_what_is_embedded(embed_boxes: bool, apart: dict[str, object]) -> None:
    images = [torch.rand(3, 96, 128), torch.rand(3, 120, 96), torch.rand(3, 48, 70)]
    model = _model(**apart, embed_boxes=embed_boxes, score_threshold=0.0).eval()
    for bias in (1.0, 0.0):  # with moved boxes, and with proposals that are the boxes
        nn.init.zeros_(model.box_predictor.regressor.weight)
        nn.init.constant_(model.box_predictor.regressor.bias, bias)
        found = model.detect(images)
        expected = model.embed(images, [torch.tensor(one.boxes) for one in found])
        near = [
            torch.allclose(torch.tensor(one.embeddings), e, atol=1e-4)
            for one, e in zip(found, expected, strict=True)
        ]
        assert near == [embed_boxes or not bias] * 3


@pytest.mark.parametrize("apart", [{}, APART])
def test_regions_too_far_from_a_person_are_not_embedded(
    apart: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, targets = scenes()
    counts = []
    for least in (0.5, 0.7, 1.01):
        model = _model(reid_min_iou=least, **apart)
        # People on all sides of the threshold.
        near = [torch.cat([t.boxes, t.boxes + 2, t.boxes + 5, t.boxes + 20]) for t in targets]
        forward = model.proposals.forward
        monkeypatch.setattr(
            model.proposals, "forward", lambda *a, f=forward, n=near: replace(f(*a), boxes=n)
        )
        given: list[Tensor] = []
        model.reid.register_forward_pre_hook(lambda _, args, g=given: g.extend(args))
        model(images, targets)
        embeddings, ids, pictures = given
        assert embeddings.shape == (len(ids), 16)
        assert (ids >= 0).all()
        assert pictures.shape == ids.shape
        # Identity k is the first of picture k and the second of picture k - 1.
        assert all(
            i in (p, (p + 1) % 4) for i, p in zip(ids.tolist(), pictures.tolist(), strict=True)
        )
        counts.append(len(ids))
    # Of each of 8 people: the box twice, moved by 2 (IoU 0.76), moved by 5 (0.52).
    assert counts == [32, 24, 0]


FIRST = {
    "rpn_objectness": 0.695695,
    "rpn_box": 0.051040,
    "detection": 0.735817,
    "box": 0.101408,
    "olp": 2.092085,
    "hep": 1.609960,
}
SECOND = {
    "rpn_objectness": 0.692819,
    "rpn_box": 0.048784,
    "detection": 0.630201,
    "box": 0.093561,
    "olp": 2.576102,
    "hep": 1.608073,
}


def test_one_step_is_pinned() -> None:
    model = _model()
    images, targets = scenes()
    torch.manual_seed(4)
    model(images, targets)  # fills the memories
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    torch.manual_seed(5)
    first = model(images, targets)
    total(first).backward()
    optimizer.step()
    optimizer.zero_grad()
    second = model(images, targets)
    assert {k: v.item() for k, v in first.items()} == pytest.approx(FIRST, rel=1e-3, abs=1e-5)
    assert {k: v.item() for k, v in second.items()} == pytest.approx(SECOND, rel=1e-3, abs=1e-4)


def test_four_scenes_are_learned() -> None:
    model = _model(**APART | {"detection_hidden": 128, "hep_scale": 16.0, "olp_scale": 8.0})
    images, targets = scenes()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    totals = []
    for _ in range(80):
        losses = model(images, targets)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        totals.append(sum(losses[name].item() for name in DETECTION))
    assert sum(totals[-5:]) < 0.75 * sum(totals[:5])
    # The statistics of a few steps lag behind the weights.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for _ in range(3):
            model(images, targets)
    model.eval()
    for one, target in zip(model.detect(images), targets, strict=True):
        assert (box_iou(target.boxes, torch.tensor(one.boxes)).amax(dim=1) > 0.6).all()
    rows = torch.cat(model.embed(images, [t.boxes for t in targets]))
    ids = torch.cat([t.ids for t in targets])
    similarity = rows @ rows.t() - 2 * torch.eye(8)
    assert torch.equal(ids[similarity.argmax(dim=1)], ids)
