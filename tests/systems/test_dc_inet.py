"""DC-I-Net end to end on small drawn pictures: its losses, its detections, its two branches."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from drawn import REGIONS, build, nobody, scenes, total
from torch import Tensor, nn
from torchvision.ops import box_iou

from personsearch.detectors.backbones import build_backbone
from personsearch.systems.base import Target
from personsearch.systems.dc_inet import PAPER_REGIONS, DCINet
from personsearch.systems.regions import FeatureMaps

DETECTION = {"rpn_objectness", "rpn_box", "detection", "box"}
APART = {"detection_hidden": 16, "detection_grid": (3, 2)}
SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "hidden": 24,
    "embedding_grid": (3, 2),
    "reid_roi_size": (8, 4),
    "dictionary_size": 64,
    "priority_classes": 3,
    "roi_size": (6, 4),
    "identity_loss": "c2hep",
}


def _model(**changes: Any) -> DCINet:
    backbone = changes.pop("backbone", "small")
    return build(DCINet, SETTINGS | changes, backbone)


def test_a_picture_alone_has_no_pair() -> None:
    model = _model()
    images, targets = scenes()
    model(images, targets)
    losses = model(images[:1], targets[:1])
    assert losses["olp"].item() == 0.0
    assert losses["c2hep"].item() > 0.0


def test_crop_losses_are_of_people_each_in_a_picture_of_their_own() -> None:
    images, targets = scenes()
    targets[3] = nobody()
    model = _model(crop_loss="own")
    model.crop_losses(images, targets)
    losses = model.crop_losses(images, targets)
    assert losses.keys() == {"olp", "c2hep"}
    # All of one picture: people of one identity are pairs all the same.
    twice = Target(targets[0].boxes, torch.tensor([2, 2]))
    assert model.crop_losses(images[:1], [twice])["olp"].item() > 0
    model.eval()
    before = model.reid.dictionary.values.clone()
    model.crop_losses(images, targets)
    assert torch.equal(model.reid.dictionary.values, before)
    total(losses).backward()
    for part in (model.stem, model.head, model.layers, model.embedder):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None for p in model.proposals.parameters())


def test_the_memories_learn_from_crops_whatever_the_loss() -> None:
    images, targets = scenes()
    targets[0] = Target(targets[0].boxes, torch.tensor([-1, 2]))
    states = []
    for kind in ("own", "softmax"):
        model = _model(crop_loss=kind, crop_jitter=0.0, crop_detection=True)
        torch.manual_seed(2)
        losses = model.crop_losses(images, targets)
        assert losses.keys() == DETECTION | ({"softmax"} if kind == "softmax" else {"olp", "c2hep"})
        assert int(model.reid.dictionary.position) == 8
        states.append(model.reid.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value)


def test_is_the_papers_network() -> None:
    """VGG16's fc6 and fc7 for detection alone; 14 x 7 regions, layers of its own for re-ID."""
    regions = replace(PAPER_REGIONS, detection_hidden=24)
    model = DCINet(build_backbone("vgg16"), 5, hidden=32, regions=regions)
    assert (PAPER_REGIONS.detection_hidden, PAPER_REGIONS.detection_grid) == (4096, (7, 7))
    assert [layer.in_features for layer in model.layers if isinstance(layer, nn.Linear)] == [
        512 * 14 * 7,
        32,
    ]
    detection = model.box_predictor.layers
    assert [layer.in_features for layer in detection if isinstance(layer, nn.Linear)] == [
        512 * 7 * 7,
        24,
    ]
    assert (model.embedder.in_features, model.embedder.out_features) == (32, 256)
    assert model.proposals.head.cls_logits.out_channels == 9
    assert model.reid.centers is not None
    assert model.reid.centers.values.shape == (5, 256)
    assert model.reid.settings.identity_loss == "c2hep"
    assert model.reid_roi_size == (14, 7)


@pytest.mark.parametrize("changes", [{}, APART])
def test_the_tasks_share_the_stem_alone(changes: dict[str, object]) -> None:
    model = _model(**changes)
    images, targets = scenes()
    model(images, targets)
    losses = model(images, targets)
    reid = losses.pop("olp") + losses.pop("c2hep")
    detection = (model.detection_head, model.box_predictor, model.proposals)
    own = (model.head, model.layers, model.embedder)
    total(losses).backward(retain_graph=True)
    for part in (model.stem, *detection):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None for part in own for p in part.parameters())
    model.zero_grad()
    reid.backward()
    for part in (model.stem, *own):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    # Nothing goes back through the refined boxes.
    assert all(p.grad is None for part in detection for p in part.parameters())


def test_the_heads_start_equal_and_are_two() -> None:
    model = _model()
    for one, other in zip(model.head.parameters(), model.detection_head.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one is not other
    assert not list(_model(**APART).detection_head.parameters())


def test_refined_boxes_are_embedded_not_proposals() -> None:
    model = _model(score_threshold=0.0).eval()
    nn.init.constant_(model.box_predictor.regressor.bias, 1.0)
    images = [torch.rand(3, 96, 128), torch.rand(3, 120, 96), torch.rand(3, 48, 70)]
    found = model.detect(images)
    expected = model.embed(images, [torch.tensor(one.boxes) for one in found])
    for one, embeddings in zip(found, expected, strict=True):
        assert len(one) > 1
        torch.testing.assert_close(torch.tensor(one.embeddings), embeddings, atol=1e-4, rtol=0)


def test_refined_boxes_near_a_person_are_embedded_in_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, targets = scenes()
    counts = []
    for least in (0.5, 0.7, 1.01):
        model = _model(reid_min_iou=least)
        # Every region moves by a tenth of its width; coder weights are 10.
        nn.init.zeros_(model.box_predictor.regressor.weight)
        with torch.no_grad():
            model.box_predictor.regressor.bias.copy_(torch.tensor([-1.0, 0, 0, 0]))
        shift = torch.tensor([2.2, 0, 2.2, 0])
        near = [torch.cat([t.boxes + shift, t.boxes + 20]) for t in targets]
        forward = model.proposals.forward
        monkeypatch.setattr(
            model.proposals, "forward", lambda *a, f=forward, n=near: replace(f(*a), boxes=n)
        )
        boxes: list[Tensor] = []
        embed = model.embed_regions

        def keep(view: FeatureMaps, regions: list[Tensor], e: Any = embed, b: Any = boxes) -> Any:
            b.extend(regions)
            return e(view, regions)

        monkeypatch.setattr(model, "embed_regions", keep)
        given: list[Tensor] = []
        model.reid.register_forward_pre_hook(lambda _, args, g=given: g.extend(args))
        model(images, targets)
        embeddings, ids, pictures = given
        assert embeddings.shape == (len(ids), 16)
        counts.append(len(ids))
        if least != 0.5:
            continue
        for k, (found, target) in enumerate(zip(boxes, targets, strict=True)):
            assert not found.requires_grad
            ious, owners = box_iou(found, target.boxes).max(dim=1)
            assert torch.equal(ids[pictures == k], target.ids[owners])
            # The moved proposals are moved back onto the people, the true boxes off them.
            assert sorted(ious.tolist()) == pytest.approx([0.818, 0.818, 1.0, 1.0], abs=1e-3)
    assert counts == [16, 16, 0]


FIRST = {
    "rpn_objectness": 0.695724,
    "rpn_box": 0.051040,
    "detection": 0.738057,
    "box": 0.177184,
    "olp": 2.157831,
    "c2hep": 0.423377,
}
SECOND = {
    "rpn_objectness": 0.694003,
    "rpn_box": 0.047633,
    "detection": 0.637936,
    "box": 0.274667,
    "olp": 2.685486,
    "c2hep": 0.305741,
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
    model = _model(**APART | {"detection_hidden": 128, "olp_scale": 8.0})
    images, targets = scenes()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    totals = []
    for _ in range(50):
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
