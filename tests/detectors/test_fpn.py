"""Faster R-CNN on a pyramid: levels, losses, detections with gradient to the boxes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from personsearch.detectors.backbones import build_trunk
from personsearch.detectors.faster_rcnn import PictureTransform
from personsearch.detectors.fpn import PyramidFasterRCNN, PyramidSettings
from personsearch.detectors.retinanet import RetinaNet
from personsearch.errors import ModelError

CHANNELS = {"C2": 4, "C3": 6, "C4": 8, "C5": 8}
STRIDES = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
SETTINGS: dict[str, Any] = {
    "pyramid_channels": 8,
    "anchor_sizes": (16, 32, 64, 96),
    "aspect_ratios": (2.0,),
    "rpn_post_nms_top_n_train": 40,
    "rpn_post_nms_top_n_test": 30,
    "rpn_batch_size_per_image": 32,
    "roi_size": (4, 2),
    "rois_per_image": 16,
    "detection_hidden": 16,
}


def _detector(**changes: Any) -> PyramidFasterRCNN:
    torch.manual_seed(0)
    return PyramidFasterRCNN(CHANNELS, STRIDES, PyramidSettings(**SETTINGS | changes))


def _maps() -> tuple[ImageList, dict[str, Tensor]]:
    torch.manual_seed(1)
    batch = ImageList(torch.rand(2, 3, 96, 128), [(96, 128), (90, 120)])
    maps = {k: torch.rand(2, c, 96 // STRIDES[k], 128 // STRIDES[k]) for k, c in CHANNELS.items()}
    return batch, maps


BOXES = [torch.tensor([[10.0, 10, 40, 80], [60, 5, 90, 90]]), torch.zeros(0, 4)]


@pytest.mark.parametrize("boxes", [BOXES, [b[:0] for b in BOXES]])
def test_losses_are_finite_and_reach_every_weight(boxes: list[Tensor]) -> None:
    detector = _detector()
    _, losses = detector(*_maps(), boxes)
    assert losses.keys() == {"rpn_objectness", "rpn_box", "detection", "box"}
    assert all(torch.isfinite(v) for v in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_level_of_a_region_does_not_depend_on_the_first_picture() -> None:
    """Of a narrow picture torchvision would guess twice the scale, from then on."""
    detector, other = _detector(), _detector()
    narrow = ImageList(torch.rand(1, 3, 64, 64), [(33, 33)])
    maps = {k: torch.rand(1, c, 64 // STRIDES[k], 64 // STRIDES[k]) for k, c in CHANNELS.items()}
    detector.postprocess(detector(narrow, maps)[0], narrow.image_sizes)
    found = [d.postprocess(d(*_maps())[0], [(96, 128), (90, 120)]) for d in (detector, other)]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a.boxes, b.boxes)
        assert torch.equal(a.scores, b.scores)


def test_each_anchor_size_is_of_its_own_level() -> None:
    detector = _detector()
    batch, maps = _maps()
    pyramid = list(detector.pyramid(maps).values())
    anchors = detector.proposals.anchor_generator(batch, pyramid)[0]
    start = 0
    for level, size in zip(pyramid, SETTINGS["anchor_sizes"], strict=True):
        count = level.shape[2] * level.shape[3]
        sides = anchors[start : start + count, 2:] - anchors[start : start + count, :2]
        assert sides.prod(dim=1).sqrt().mean().item() == pytest.approx(size, rel=0.1)
        start += count
    assert start == len(anchors)


def test_detections_have_a_gradient_to_the_deltas_and_none_to_the_regions() -> None:
    detector = _detector(score_threshold=0.0)
    batch, maps = _maps()
    proposals, _ = detector(batch, maps)
    found = detector.postprocess(proposals, batch.image_sizes)
    assert [len(f.boxes) > 0 for f in found] == [True, True]
    for f, (height, width) in zip(found, batch.image_sizes, strict=True):
        assert (f.scores[:-1] >= f.scores[1:]).all()
        assert f.boxes.min() >= 0
        assert f.boxes[:, 2].max() <= width
        assert f.boxes[:, 3].max() <= height
    found[0].boxes.sum().backward()
    weight = detector.box_predictor.regressor.weight
    assert weight.grad is not None
    assert weight.grad.any()
    assert not any(b.requires_grad for b in proposals.boxes)


def test_true_boxes_are_among_the_sampled_regions_but_not_the_proposals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector = _detector(score_threshold=0.0)
    batch, maps = _maps()
    true = [torch.tensor([[3.25, 5.5, 21.75, 41.0]])] * 2
    sampled: list[list[torch.Tensor]] = []
    pool = detector.pool.forward
    monkeypatch.setattr(
        detector.pool, "forward", lambda x, b, s: sampled.append(b) or pool(x, b, s)
    )
    proposals, losses = detector(batch, maps, true)
    assert losses.keys() == {"rpn_objectness", "rpn_box", "detection", "box"}
    assert all((regions == true[0]).all(dim=1).any() for regions in sampled[0])
    assert not any((own == true[0]).all(dim=1).any() for own in proposals.boxes)
    assert all(len(b) <= detector.settings.rpn_post_nms_top_n_test for b in proposals.boxes)


def test_a_fifth_size_adds_a_coarser_level() -> None:
    detector = _detector(anchor_sizes=(8, 16, 32, 64, 96))
    _, maps = _maps()
    assert len(detector.pyramid(maps)) == 5
    assert _detector(anchor_sizes=(16, 32)).levels == ("C2", "C3")


@pytest.mark.parametrize(
    "changes", [{"anchor_sizes": ()}, {"anchor_sizes": (8,) * 6}, {"aspect_ratios": ()}]
)
def test_settings_that_no_network_can_have(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="expected 1 to 5 sizes"):
        _detector(**changes)


@pytest.fixture(scope="module")
def published() -> FasterRCNN:
    """Torchvision's network of two classes, of which some regions show the second."""
    torch.manual_seed(0)
    network = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=2, min_size=96, max_size=128
    ).eval()
    torch.nn.init.normal_(network.rpn.head.cls_logits.weight, std=0.3)
    torch.nn.init.normal_(network.roi_heads.box_predictor.bbox_pred.weight, std=0.02)
    return network


def test_equals_torchvisions_network_exactly(published: FasterRCNN, tmp_path: Path) -> None:
    """Its whole detection, from the picture on, from a file of weights."""
    torch.save(published.state_dict(), tmp_path / "detector.pth")
    trunk = build_trunk("resnet50", str(tmp_path / "detector.pth"))
    detector = PyramidFasterRCNN(trunk.channels, trunk.strides).eval()
    detector.load_published(trunk.detector)
    images = [torch.rand(3, 96, 120), torch.rand(3, 128, 90)]
    with torch.no_grad():
        batch = PictureTransform(96, 128).to_batch(images)
        maps, x = {}, batch.tensors
        for name, block in trunk.blocks.eval().items():
            maps[name] = x = block(x)
        found = detector.postprocess(detector(batch, maps)[0], batch.image_sizes)
        expected = published(images)
    found_boxes = PictureTransform.unscale([one.boxes for one in found], images, batch)
    for one, boxes, theirs in zip(found, found_boxes, expected, strict=True):
        assert len(one.scores) > 10
        assert torch.equal(one.scores, theirs["scores"])
        assert torch.equal(boxes, theirs["boxes"])


def test_of_91_classes_the_person_is_kept(published: FasterRCNN) -> None:
    state = published.state_dict()
    predictor = "roi_heads.box_predictor."
    rows = torch.rand(91, 1024)
    state[f"{predictor}cls_score.weight"], state[f"{predictor}cls_score.bias"] = rows, rows[:, 0]
    deltas = torch.rand(91 * 4, 1024)
    state[f"{predictor}bbox_pred.weight"] = deltas
    state[f"{predictor}bbox_pred.bias"] = deltas[:, 0]
    # Files of the time had no version of these two, and frozen statistics.
    state["rpn.head.conv.weight"] = state.pop("rpn.head.conv.0.0.weight")
    state["rpn.head.conv.bias"] = state.pop("rpn.head.conv.0.0.bias")
    channels = {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}
    detector = PyramidFasterRCNN(channels, STRIDES)
    detector.load_published(dict(state))
    assert detector.box_predictor.classifier is not None
    assert torch.equal(detector.box_predictor.classifier.weight, rows[:2])
    assert torch.equal(detector.box_predictor.regressor.weight, deltas[4:8])
    assert torch.equal(
        detector.proposals.head.state_dict()["conv.0.0.bias"], state["rpn.head.conv.bias"]
    )
    with pytest.raises(ModelError, match=r"does not fit .*weights = 'coco-faster-rcnn'"):
        _detector().load_published(dict(state))
    with pytest.raises(ModelError, match=r"does not fit .* expected torchvision's RetinaNet"):
        RetinaNet(channels).load_published(dict(state))


def test_a_body_with_frozen_statistics_is_divided_by_their_root_alone(
    published: FasterRCNN, tmp_path: Path
) -> None:
    state = {k: v for k, v in published.state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "frozen.pth")
    trunk = build_trunk("resnet50", str(tmp_path / "frozen.pth"), "frozen")
    exact = FrozenBatchNorm2d(64, eps=0.0)
    exact.load_state_dict(
        {k.rpartition(".")[2]: v for k, v in state.items() if k.startswith("backbone.body.bn1.")}
    )
    x = torch.rand(1, 64, 5, 5)
    torch.testing.assert_close(trunk.blocks["C1"].get_submodule("bn1")(x), exact(x))
