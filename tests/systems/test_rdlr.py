"""RDLR: the re-ID network is frozen, the box regression loss is gone, the boxes have a gradient."""

from typing import Any

import pytest
import torch
from drawn import total
from torch import Tensor

from personsearch.detectors.backbones import build_trunk
from personsearch.detectors.fpn import PyramidSettings
from personsearch.detectors.retinanet import DetectedBoxes
from personsearch.errors import ModelError
from personsearch.systems.base import Target
from personsearch.systems.rdlr import RDLR

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
    settings |= {"match_iou": 0.1} | changes
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
    assert all(p.requires_grad for p in model.reid.parameters())


def test_the_second_step_trains_the_reid_network_alone() -> None:
    model = _model(reid_jitter=0.1)
    losses = model.crop_losses(*_scenes())
    assert losses.keys() == {"softmax"}
    total(losses).backward()
    trained = {id(p) for p in model.crop_parameters()}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained), name
        assert (id(parameter) in trained) == name.startswith("reid."), name
    both = {id(p) for p in model.detection_parameters()}
    assert not both & trained


def test_detections_of_labelled_people_alone_are_refined() -> None:
    model = _model(match_iou=0.5, refined_per_image=2)
    boxes = torch.tensor([[0.0, 0, 10, 20], [30, 0, 40, 20]])
    shown = torch.tensor(
        [[30.0, 1, 40, 21], [0, 1, 10, 21], [60, 0, 70, 20], [1, 0, 11, 20], [0, 0, 10, 19]]
    )
    found = [DetectedBoxes(torch.arange(5), shown, torch.linspace(0.9, 0.5, 5))] * 2
    ids = [torch.tensor([7, 3]), torch.tensor([-1, 3])]
    refined, owners = model._matched(found, [boxes, boxes], ids)
    assert [o.tolist() for o in owners] == [[3, 7], [3]]
    assert torch.equal(refined[0], shown[:2])
    assert torch.equal(refined[1], shown[:1])
    refined, owners = model._matched(found[:1], [boxes[:0]], [ids[0][:0]])
    assert (len(refined[0]), len(owners[0])) == (0, 0)


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
        "rpn_objectness": 0.692969,
        "rpn_box": 0.053285,
        "detection": 0.688775,
        "softmax": 1.3364,
        "proxy_triplet": 3.51422,
    },
    "retinanet": {"focal": 1.12887, "softmax": 1.37574, "proxy_triplet": 3.40521},
}
SECOND: dict[str, dict[str, float]] = {
    "faster_rcnn": {
        "rpn_objectness": 0.69152,
        "rpn_box": 0.052954,
        "detection": 0.683827,
        "softmax": 1.37299,
        "proxy_triplet": 3.74662,
    },
    "retinanet": {"focal": 1.12785, "softmax": 1.36961, "proxy_triplet": 3.20055},
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
