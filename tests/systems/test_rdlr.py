"""RDLR: the re-ID network is frozen, the box regression loss is gone, the boxes have a gradient."""

from typing import Any

import pytest
import torch
from drawn import total
from torch import Tensor

from personsearch.detectors.backbones import build_trunk
from personsearch.detectors.fpn import PyramidSettings
from personsearch.errors import ModelError
from personsearch.systems.base import Target
from personsearch.systems.rdlr import RDLR
from personsearch.systems.roi_transform import roi_transform

PYRAMID: dict[str, Any] = {
    "pyramid_channels": 8,
    "head_depth": 1,
    "anchor_sizes": (24, 40, 60),
    "anchor_octaves": 1,
    "aspect_ratios": (2.0,),
    "rpn_post_nms_top_n_train": 40,
    "rpn_post_nms_top_n_test": 20,
    "rpn_batch_size_per_image": 32,
    "roi_size": (4, 2),
    "rois_per_image": 16,
    "detection_hidden": 16,
    "score_threshold": 0.0,
    "max_detections": 12,
}
DETECTORS = ("faster_rcnn", "retinanet")
OWN = {
    "faster_rcnn": {"rpn_objectness", "rpn_box", "detection"},
    "retinanet": {"focal"},
}
each = pytest.mark.parametrize("detector", DETECTORS)


def _model(**changes: Any) -> RDLR:
    torch.manual_seed(0)
    pyramid = PYRAMID | {k: changes.pop(k) for k in list(changes) if k in PYRAMID}
    settings: dict[str, Any] = {"crop_size": (32, 16), "min_size": 96, "max_size": 160}
    settings |= {"match_iou": 0.1, "proxy_features": "unit"} | changes
    return RDLR(build_trunk("small", width=4), 4, pyramid=PyramidSettings(**pyramid), **settings)


def _scenes() -> tuple[list[Tensor], list[Target]]:
    torch.manual_seed(5)
    images, targets = [], []
    for k in range(2):
        image = torch.rand(3, 96, 128) * 0.2
        boxes = torch.tensor([[12.0 + 6 * k, 20, 34 + 6 * k, 64], [76 + 4 * k, 30, 98 + 4 * k, 74]])
        for (x1, y1, x2, y2), value in zip(boxes.int().tolist(), (0.5, 0.9), strict=True):
            image[k, y1:y2, x1:x2] += value
        images.append(image)
        targets.append(Target(boxes, torch.tensor([k, k + 2])))
    return images, targets


def _fill(model: RDLR) -> None:
    """Proxies, so that triplets exist."""
    draw = torch.Generator().manual_seed(2)
    x = torch.nn.functional.normalize(torch.randn(4, model.embedding_dim, generator=draw), dim=1)
    model.proxies.update_memory(x, torch.arange(4))


@each
@pytest.mark.parametrize(
    ("loss", "names"),
    [
        ("softmax", {"softmax"}),
        ("proxy_triplet", {"proxy_triplet"}),
        ("both", {"softmax", "proxy_triplet"}),
    ],
)
def test_reid_losses_replace_the_box_regression_loss(
    detector: str, loss: str, names: set[str]
) -> None:
    model = _model(detector=detector, reid_loss=loss, proxy_margin=3.0)
    images, targets = _scenes()
    _fill(model)
    losses = model(images, targets)
    assert losses.keys() == OWN[detector] | names
    assert all(torch.isfinite(v) for v in losses.values())
    assert model.detection_losses(images, targets).keys() == OWN[detector] | {"box"}


@each
def test_the_gradient_of_the_reid_losses_reaches_the_box_regressor_alone(detector: str) -> None:
    """Of the last layers: who is a person is not theirs to say."""
    model = _model(detector=detector, proxy_margin=3.0)
    images, targets = _scenes()
    _fill(model)
    losses = model(images, targets)
    total({k: v for k, v in losses.items() if k not in OWN[detector]}).backward()
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    regressor = "box_predictor.regressor" if detector == "faster_rcnn" else "bbox_reg"
    classifier = "box_predictor.classifier" if detector == "faster_rcnn" else "cls_logits"
    assert any(regressor in name for name in moved)
    assert not any(classifier in name for name in moved)
    assert any(name.startswith("trunk.") for name in moved)
    assert not any(name.startswith("reid.") for name in moved)


@each
def test_a_refinement_step_leaves_the_reid_network_bit_for_bit(detector: str) -> None:
    model = _model(detector=detector).train()
    images, targets = _scenes()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, weight_decay=0.1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for _ in range(2):
        optimizer.zero_grad()
        total(model(images, targets)).backward()
        optimizer.step()
    after = model.state_dict()
    for name, value in before.items():
        if name.startswith("reid."):
            assert torch.equal(after[name], value), name
    assert any(n.startswith("trunk.") and not torch.equal(after[n], v) for n, v in before.items())
    assert model.reid.training
    fixed = [name for name, p in model.reid.named_parameters() if not p.requires_grad]
    assert fixed == ["neck.bias"]


@each
def test_no_true_box_enters_the_refinement(detector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cropped is what `detect` finds, whatever the true boxes are."""
    cropped: list[Tensor] = []

    def recorded(images: list[Tensor], boxes: list[Tensor], size: tuple[int, int]) -> Tensor:
        cropped.extend(boxes)
        return roi_transform(images, boxes, size)

    monkeypatch.setattr("personsearch.systems.rdlr.roi_transform", recorded)
    model = _model(detector=detector, match_iou=0.0).eval()
    images, targets = _scenes()
    found = model.detect(images)
    for shift in (0.0, 7.0):
        cropped.clear()
        model(images, [Target(t.boxes + shift, t.ids) for t in targets])
        assert [len(b) for b in cropped] == [2, 2]
        for boxes, own, target in zip(cropped, found, targets, strict=True):
            assert boxes.requires_grad
            apart = (boxes.detach()[:, None] - torch.tensor(own.boxes)).abs().amax(dim=2)
            assert apart.amin(dim=1).max() < 1e-3, "a refined box is not a detection"
            true = (boxes.detach()[:, None] - (target.boxes + shift)).abs().amax(dim=2)
            assert true.min() > 1e-3


def test_a_labelled_person_is_stood_for_by_the_nearest_detection() -> None:
    model = _model(match_iou=0.5)
    boxes = torch.tensor([[0.0, 0, 10, 20], [30, 0, 40, 20]])
    shown = torch.tensor(
        [[60.0, 0, 70, 20], [0, 1, 10, 21], [30, 1, 40, 21], [0, 0, 10, 19.5], [1, 0, 11, 20]]
    )
    ids = [torch.tensor([7, 3]), torch.tensor([-1, 3])]
    refined, owners = model.labelled([shown, shown], [boxes, boxes], ids)
    assert owners.tolist() == [7, 3, 3]
    assert torch.equal(refined[0], shown[[3, 2]])
    assert torch.equal(refined[1], shown[[2]])
    for own, true in ((shown[:1], boxes), (shown[:0], boxes), (shown, boxes[:0])):
        refined, owners = model.labelled([own], [true], [ids[0][: len(true)]])
        assert (len(refined[0]), len(owners)) == (0, 0)
    # The first author's code has no least IoU; whom nothing overlaps is left out all the same.
    far = torch.tensor([[9.0, 19, 19, 39], [60, 0, 70, 20]])
    refined, owners = _model(match_iou=0.0).labelled([far], [boxes], ids[:1])
    assert owners.tolist() == [7]
    assert torch.equal(refined[0], far[:1])


@each
def test_the_control_has_the_losses_of_the_detector_alone(detector: str) -> None:
    """A refinement of equal length, without re-ID losses."""
    model = _model(detector=detector, reid_loss="none", keep_box_loss=True)
    images, targets = _scenes()
    torch.manual_seed(3)
    losses = model(images, targets)
    torch.manual_seed(3)
    expected = model.detection_losses(images, targets)
    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[k], v) for k, v in expected.items())
    kept = _model(detector=detector, keep_box_loss=True)(images, targets)
    assert kept.keys() == OWN[detector] | {"box", "softmax", "proxy_triplet"}


def test_proxies_are_compared_before_the_neck() -> None:
    """As they are, in the first author's code; or of unit length."""
    images, targets = _scenes()
    seen: list[Tensor] = []
    for kind in ("raw", "unit"):
        model = _model(proxy_features=kind).eval()
        model.proxies.train()
        model(images, targets)
        written = model.proxies.values[model.proxies.written > 0, 0]
        assert len(written) == 4
        seen.append(written)
    assert (seen[0].norm(dim=1) - 1).abs().max() > 1e-2
    torch.testing.assert_close(torch.nn.functional.normalize(seen[0], dim=1), seen[1])


@each
@pytest.mark.parametrize("shown", ["nobody", "nobody labelled"])
def test_pictures_without_anyone_to_refine(detector: str, shown: str) -> None:
    model = _model(detector=detector)
    images, targets = _scenes()
    if shown == "nobody":
        targets = [Target(t.boxes[:0], t.ids[:0]) for t in targets]
    else:
        targets = [Target(t.boxes, torch.full_like(t.ids, -1)) for t in targets]
    losses = model(images, targets)
    total(losses).backward()
    assert losses["softmax"].item() == losses["proxy_triplet"].item() == 0.0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)


@each
def test_detections_are_sorted_and_embedded_as_their_boxes_are(detector: str) -> None:
    model = _model(detector=detector, max_detections=5).eval()
    torch.manual_seed(1)
    images = [torch.rand(3, 48, 64), torch.rand(3, 300, 200)]
    found = model.detect(images)
    again = model.embed(images, [torch.tensor(f.boxes) for f in found])
    for image, one, embeddings in zip(images, found, again, strict=True):
        assert 0 < len(one) <= 5
        assert (one.scores[:-1] >= one.scores[1:]).all()
        assert one.boxes.min() >= 0
        assert one.boxes[:, 2].max() <= image.shape[2] + 1e-3
        torch.testing.assert_close(torch.tensor(one.embeddings), embeddings, atol=1e-4, rtol=0)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(one)))
    assert found[1].boxes[:, 3].max() > 160
    assert len(_model(detector=detector, score_threshold=1.0).eval().detect(images)[0]) == 0


def test_unknown_choices_name_the_known() -> None:
    with pytest.raises(ModelError, match="expected 'faster_rcnn' or 'retinanet'"):
        _model(detector="yolo")
    with pytest.raises(ModelError, match="one of 'softmax', 'proxy_triplet', 'both'"):
        _model(reid_loss="hinge")


FIRST: dict[str, dict[str, float]] = {
    "faster_rcnn": {
        "rpn_objectness": 0.691841,
        "rpn_box": 0.0529874,
        "detection": 0.702328,
        "softmax": 1.38601,
        "proxy_triplet": 3.14366,
    },
    "retinanet": {"focal": 1.12769, "softmax": 1.38643, "proxy_triplet": 3.36689},
}
SECOND: dict[str, dict[str, float]] = {
    "faster_rcnn": {
        "rpn_objectness": 0.690225,
        "rpn_box": 0.0526556,
        "detection": 0.695384,
        "softmax": 1.38635,
        "proxy_triplet": 4.71261,
    },
    "retinanet": {"focal": 1.12635, "softmax": 1.38652, "proxy_triplet": 4.8272},
}


@each
def test_a_step_is_pinned(detector: str) -> None:
    """The losses around one step; a change here is a changed result."""
    model = _model(detector=detector, proxy_margin=3.0)
    images, targets = _scenes()
    _fill(model)
    optimizer = torch.optim.SGD(model.detection_parameters(), 0.01)
    for expected in (FIRST, SECOND):
        torch.manual_seed(1)
        losses = model(images, targets)
        values = {k: v.item() for k, v in losses.items()}
        assert values == pytest.approx(expected[detector], rel=1e-3, abs=1e-5)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
