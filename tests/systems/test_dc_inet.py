"""DC-I-Net end to end on small drawn pictures: its losses, its detections, its two branches."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from drawn import REGIONS, build, scenes, total
from torch import Tensor, nn
from torchvision.ops import box_iou, roi_align, roi_pool

from personsearch.detectors.backbones import build_backbone
from personsearch.systems.dc_inet import DCINet
from personsearch.systems.regions import FeatureMaps
from personsearch.systems.xiao2016 import Xiao2016
from personsearch.training.renamed_keys import current_tensors

DETECTION = {"rpn_objectness", "rpn_box", "detection", "box"}
APART = {"detection_hidden": 16, "detection_grid": (3, 2)}
SETTINGS: dict[str, Any] = REGIONS | {
    "embedding_dim": 16,
    "hidden": 24,
    "embedding_grid": (3, 2),
    "dropout": 0.0,
    "reid_roi_size": (8, 4),
    "dictionary_size": 64,
    "priority_classes": 5,
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


def test_is_the_papers_network() -> None:
    """VGG16's fc6 and fc7 for detection alone; 14 x 7 regions, layers of its own for re-ID."""
    with torch.device("meta"):
        model = DCINet(build_backbone("vgg16", embedding_grid=(14, 7)), 5)

    def shapes(layers: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(m.weight.shape) for m in layers.children() if isinstance(m, nn.Linear)]

    assert shapes(model.head) == [(4096, 512 * 7 * 7), (4096, 4096)]
    assert (model.roi_pooling, model.roi_size) == ("max", (7, 7))
    assert not list(model.reid_head.children())
    assert model.reid_roi_size == (14, 7)
    assert shapes(model.layers) == [(4096, 512 * 14 * 7), (4096, 4096)]
    assert (model.embedder.in_features, model.embedder.out_features) == (4096, 256)
    assert model.proposals.head.cls_logits.out_channels == 9
    assert model.reid.centers is not None
    assert model.reid.centers.values.shape == (5, 256)
    assert model.reid.settings.identity_loss == "c2hep"


def test_the_papers_resnet_has_conv5_twice() -> None:
    with torch.device("meta"):
        model = DCINet(build_backbone("resnet50"), 5, hidden=0)
    for head in (model.head, model.reid_head):
        assert [name for name, _ in head.named_children()] == ["layer4"]
    assert model.head.layer4 is not model.reid_head.layer4
    assert model.embedder.in_features == model.box_predictor.regressor.in_features == 2048


def test_a_checkpoint_of_xiao_2016_starts_its_stem_and_detection() -> None:
    """Section 5.1.1; the re-identifier is not in that network."""
    with torch.device("meta"):
        first = Xiao2016(build_backbone("vgg16"), 7).state_dict()
        model = DCINet(build_backbone("vgg16", embedding_grid=(14, 7)), 5)
    expected = model.state_dict()
    tensors = current_tensors(first, model)
    taken = {k for k, v in expected.items() if k in tensors and tensors[k].shape == v.shape}
    parts = {name.split(".")[0] for name in taken}
    assert parts == {"stem", "proposals", "head", "box_predictor"}
    assert {k for k in first if k.split(".")[0] in parts} == taken
    left = {name.split(".")[0] for name in expected.keys() - taken}
    assert left == {"box_predictor", "layers", "embedder", "reid"}


@pytest.mark.parametrize("own", [False, True])
def test_names_of_tensors_of_version_0_1(own: bool) -> None:
    """There `head` was the re-identifier's, and detection's was a copy or two layers."""
    model = _model(**(APART if own else {}))
    theirs = model.state_dict()
    old = {}
    for name, tensor in theirs.items():
        name = re.sub(r"^head\.layers\.", "box_predictor.layers.", name)
        old[re.sub("^reid_head", "head", re.sub("^head", "detection_head", name))] = tensor
    assert old.keys() != theirs.keys()
    current = current_tensors(old, model)
    assert current.keys() == theirs.keys()
    assert all(current[name] is tensor for name, tensor in theirs.items())
    assert current_tensors(theirs, model).keys() == theirs.keys()


def test_reid_gradients_may_end_before_the_stem() -> None:
    images, targets = scenes()
    values = []
    for kind in ("all", "head"):
        model = _model(reid_gradient=kind)
        model(images, targets)
        torch.manual_seed(3)
        losses = model(images, targets)
        values.append({name: loss.item() for name, loss in losses.items()})
        (losses["olp"] + losses["c2hep"]).backward()
        assert all((p.grad is not None) == (kind == "all") for p in model.stem.parameters())
        for part in (model.reid_head, model.layers, model.embedder):
            assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert values[0] == values[1]


def test_proposals_are_pooled_by_maximum_and_refined_boxes_aligned() -> None:
    model = _model(roi_pooling="max")
    maps = model.extract_features([torch.rand(3, 96, 128)])
    boxes = [torch.tensor([[3.0, 5, 60, 90]])]
    expected = roi_pool(maps.features, boxes, (6, 4), 1 / 8)
    assert torch.equal(model.roi_features(maps, boxes).pooled, expected)
    given: list[Tensor] = []
    model.reid_head.register_forward_pre_hook(lambda _, args: given.extend(args))
    model.embed_regions(maps, boxes)
    assert torch.equal(given[0], roi_align(maps.features, boxes, (8, 4), 1 / 8, 2))


@pytest.mark.parametrize("changes", [{}, APART])
def test_the_tasks_share_the_stem_alone(changes: dict[str, object]) -> None:
    model = _model(**changes)
    images, targets = scenes()
    model(images, targets)
    losses = model(images, targets)
    reid = losses.pop("olp") + losses.pop("c2hep")
    detection = (model.head, model.box_predictor, model.proposals)
    own = (model.reid_head, model.layers, model.embedder)
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
    for one, other in zip(model.head.parameters(), model.reid_head.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one is not other
    assert all(
        isinstance(m, nn.Linear)
        for m in _model(**APART).head.layers.children()
        if [*m.parameters()]
    )


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
    "rpn_objectness": 0.695695,
    "rpn_box": 0.051040,
    "detection": 0.735817,
    "box": 0.101408,
    "olp": 2.142142,
    "c2hep": 0.766846,
}
SECOND = {
    "rpn_objectness": 0.692620,
    "rpn_box": 0.048260,
    "detection": 0.636232,
    "box": 0.089219,
    "olp": 2.664579,
    "c2hep": 0.512882,
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
