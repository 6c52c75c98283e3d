"""OIM end to end on small drawn pictures: its losses, its detections, its memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from drawn import REGIONS, build, scenes, total
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d, box_iou, roi_align, roi_pool

from personsearch.detectors.backbones import build_backbone
from personsearch.detectors.faster_rcnn import RegionPooling
from personsearch.systems.oim import OIM
from personsearch.systems.regions import FeatureMaps, RegionFeatures
from personsearch.types import Detections

DETECTION = {"rpn_objectness", "rpn_box", "detection", "box"}
APART = {"detection_hidden": 16, "detection_grid": (3, 2)}
SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "queue_size": 8,
    "roi_size": (6, 4),
    "py_faster_rcnn": False,
}


def _model(**changes: Any) -> OIM:
    return build(OIM, SETTINGS | changes)


def test_an_embedding_grid_sees_top_and_bottom_apart() -> None:
    seen = torch.rand(3, 64, 6, 4)
    features = RegionFeatures(torch.empty(0), RegionPooling([], (6, 4), 1, "max"), nn.Sequential())
    for grid, same in (((1, 1), True), ((2, 1), False), ((1, 2), True)):
        model = _model(embedding_grid=grid)
        features.deep = seen
        upright = model.embed_features(features)
        features.deep = seen.flip(2)
        turned = model.embed_features(features)
        assert torch.allclose(upright, turned, atol=1e-5) is same


def test_regions_are_sampled_as_asked() -> None:
    features = torch.rand(1, 3, 12, 16)
    view = FeatureMaps([], ImageList(features, []), features)
    boxes = [torch.tensor([[3.0, 5, 100, 90]])]
    pooled = []
    for points, aligned in ((1, False), (4, False), (4, True)):
        changes = {"sampling_ratio": points, "roi_aligned": aligned, "roi_pooling": "align"}
        pooled.append(_model(roi_size=(2, 3), **changes).pool(view, boxes))
        expected = roi_align(features, boxes, (2, 3), 1 / 8, points, aligned=aligned)
        assert torch.equal(pooled[-1], expected)
    assert not torch.allclose(pooled[0], pooled[1], atol=0.01)
    expected = roi_pool(features, boxes, (2, 3), 1 / 8)
    assert torch.equal(_model(roi_size=(2, 3)).pool(view, boxes), expected)


@pytest.mark.parametrize(("changes", "reached"), [({}, True), (APART, False)])
def test_detection_apart_leaves_the_head_to_the_embedding(
    changes: dict[str, object], reached: bool
) -> None:
    model = _model(**changes)
    images, targets = scenes()
    model(images, targets)
    losses = model(images, targets)
    identity = losses.pop("oim")
    total(losses).backward(retain_graph=True)
    for part in (model.stem, model.box_predictor):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all((p.grad is not None) is reached for p in model.head.parameters())
    assert all(p.grad is None for p in model.embedder.parameters())
    model.zero_grad()
    identity.backward()
    for part in (model.stem, model.head, model.embedder):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None for p in model.box_predictor.parameters())


def _found_and_embedded(model: OIM, images: list[Tensor]) -> list[tuple[Detections, Tensor]]:
    """Detections of each picture, some suppressed, and what `embed` says of their boxes."""
    found = model.eval().detect(images)
    assert all(1 < len(one) < SETTINGS["rpn_post_nms_top_n_test"] for one in found)
    assert len({len(one) for one in found}) > 1
    embeddings = model.embed(images, [torch.tensor(one.boxes) for one in found])
    return list(zip(found, embeddings, strict=True))


@pytest.mark.parametrize("apart", [{}, APART])
@pytest.mark.parametrize("embed_boxes", [False, True])
def test_what_is_embedded(embed_boxes: bool, apart: dict[str, object]) -> None:
    images = [torch.rand(3, 96, 128), torch.rand(3, 120, 96), torch.rand(3, 48, 70)]
    changes = apart | {"embed_boxes": embed_boxes, "score_threshold": 0.0}
    model = _model(**changes)
    with torch.no_grad():
        model.box_predictor.regressor.bias += 1.0
    near = [
        torch.allclose(torch.tensor(one.embeddings), expected, atol=1e-4)
        for one, expected in _found_and_embedded(model, images)
    ]
    assert near == [embed_boxes] * 3
    # Where boxes are not moved, a proposal is the box, and each row has its own embedding.
    model = _model(**changes)
    nn.init.zeros_(model.box_predictor.regressor.weight)
    for one, expected in _found_and_embedded(model, images):
        torch.testing.assert_close(torch.tensor(one.embeddings), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("apart", [{}, APART])
def test_regions_too_far_from_a_person_are_not_embedded(
    apart: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, targets = scenes()
    counts = []
    for least in (0.5, 0.7, 1.01):
        model = _model(oim_min_iou=least, **apart)
        # People on all sides of the threshold.
        near = [torch.cat([t.boxes, t.boxes + 2, t.boxes + 5, t.boxes + 20]) for t in targets]
        forward = model.proposals.forward
        monkeypatch.setattr(
            model.proposals, "forward", lambda *a, f=forward, n=near: replace(f(*a), boxes=n)
        )
        given: list[Tensor] = []
        model.oim.register_forward_pre_hook(lambda _, args, g=given: g.extend(args))
        losses = model(images, targets)
        embeddings, ids, _ = given
        assert embeddings.shape == (len(ids), 16)
        assert (ids >= 0).all()
        counts.append(len(ids))
    # Of each of 8 people: the box twice, moved by 2 (IoU 0.76), moved by 5 (0.52).
    assert counts == [32, 24, 0]
    assert losses["oim"].item() == 0
    assert not model.oim.lookup.values.any()
    assert all(losses[name] > 0 for name in DETECTION)


# The first OIM loss is log(4 identities + 8 places in the queue), all still zero.
FIRST = {
    "rpn_objectness": 0.69572,
    "rpn_box": 0.05104,
    "detection": 0.73604,
    "box": 0.10141,
    "oim": 2.48491,
}
SECOND = {
    "rpn_objectness": 0.69440,
    "rpn_box": 0.04818,
    "detection": 0.63042,
    "box": 0.09352,
    "oim": 0.58271,
}


def test_one_step_is_pinned() -> None:
    model = _model()
    images, targets = scenes()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    torch.manual_seed(5)
    first = model(images, targets)
    total(first).backward()
    optimizer.step()
    optimizer.zero_grad()
    second = model(images, targets)
    assert {k: v.item() for k, v in first.items()} == pytest.approx(FIRST, abs=1e-4)
    assert {k: v.item() for k, v in second.items()} == pytest.approx(SECOND, abs=1e-3)


@pytest.mark.parametrize(
    ("steps", "changes"),
    [(150, {}), (60, {"detection_grid": (3, 2)}), (80, APART | {"detection_hidden": 128})],
)
def test_four_scenes_are_learned(steps: int, changes: dict[str, object]) -> None:
    model = _model(box_beta=1 / 9, roi_pooling="align", **changes)
    images, targets = scenes()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    totals = []
    for _ in range(steps):
        losses = model(images, targets)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        totals.append(total(losses).item())
    assert sum(totals[-5:]) < 0.4 * sum(totals[:5])
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
        sure = torch.tensor(one.boxes[one.scores > 0.5])
        assert len(sure) >= 2
        assert (box_iou(target.boxes, sure).amax(dim=1) > 0.6).all()
    rows = torch.cat(model.embed(images, [t.boxes for t in targets]))
    ids = torch.cat([t.ids for t in targets])
    similarity = rows @ rows.t() - 2 * torch.eye(8)
    assert torch.equal(ids[similarity.argmax(dim=1)], ids)


def test_starts_as_the_authors_network() -> None:
    model = OIM(build_backbone("resnet50", norm="frozen-stem", frozen_stages=2), 10)
    assert model.embedder.weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.02)
    assert not model.embedder.bias.any()
    assert model.roi_pooling == "max"
    assert model.oim.temperature == 0.1
    kinds = {
        part: {type(m) for m in model.get_submodule(part).modules() if "Norm" in type(m).__name__}
        for part in ("stem", "head")
    }
    assert kinds == {"stem": {FrozenBatchNorm2d}, "head": {nn.BatchNorm2d}}
    still = {n.split(".")[0] for n, p in model.stem.named_parameters() if not p.requires_grad}
    assert still == {"conv1"}
