"""What region systems share: scales, pooling, selection, and the stage on people cut out."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from personsearch.detectors.backbones import build_backbone
from personsearch.errors import ModelError
from personsearch.systems.base import Target
from personsearch.systems.regions import (
    ALL,
    DetectionStep,
    FeatureMaps,
    RegionSettings,
    RegionSystem,
    Rows,
)

SETTINGS: dict[str, Any] = {"min_size": 64, "max_size": 128, "roi_size": (4, 2)}


class Averages(RegionSystem[Tensor]):
    """The least a system can be: a region's averaged channels are its embedding."""

    def __init__(self, **settings: Any) -> None:
        backbone = build_backbone("small", width=4)
        super().__init__(backbone, 3, 16, RegionSettings(**SETTINGS | settings))
        self.remembered: list[Tensor] = []

    def roi_features(self, maps: FeatureMaps, boxes: list[Tensor]) -> Tensor:
        return self.pool(maps, boxes).mean(dim=(2, 3))

    def predict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features[:, :2], features[:, :4]

    def identity_losses(self, step: DetectionStep[Tensor]) -> dict[str, Tensor]:
        assert len(step.features) == len(step.regions.ids)
        return {"identity": step.features.mean()}

    def embed_features(self, features: Tensor, rows: Rows = ALL) -> Tensor:
        return functional.normalize(features[rows], dim=1)

    def update_memory(self, embeddings: Tensor, ids: Tensor) -> None:
        self.remembered.append(ids)


def _seen() -> tuple[list[Tensor], list[Target]]:
    images = [torch.rand(3, 32, 48), torch.rand(3, 64, 60)]
    boxes = [torch.tensor([[4.0, 2, 20, 30]]), torch.tensor([[0.0, 0, 30, 60], [30, 4, 50, 44]])]
    ids = [torch.tensor([2]), torch.tensor([0, -1])]
    return images, [Target(b, i) for b, i in zip(boxes, ids, strict=True)]


def test_boxes_are_scaled_with_their_picture_and_back() -> None:
    model = Averages()
    images, targets = _seen()
    maps = model.extract_features(images)
    boxes, ids = model.scale(maps, targets)
    # 32 x 48 becomes 64 x 96, 64 x 60 becomes 68 x 64.
    torch.testing.assert_close(boxes[0], targets[0].boxes * 2)
    torch.testing.assert_close(boxes[1], targets[1].boxes * (64 / 60), rtol=0.02, atol=0)
    assert [i.tolist() for i in ids] == [[2], [0, -1]]
    scores = [torch.ones(1), torch.ones(2)]
    found = model.postprocess(maps, boxes, scores, torch.eye(16)[:3])
    for one, target in zip(found, targets, strict=True):
        torch.testing.assert_close(torch.tensor(one.boxes), target.boxes)


def test_a_region_is_pooled_from_the_shared_map_at_the_size_asked() -> None:
    model = Averages(sampling_ratio=3)
    maps = model.extract_features([torch.rand(3, 64, 96)])
    boxes = [torch.tensor([[3.0, 5, 40, 60]])]
    expected = roi_align(maps.features, boxes, (4, 2), 1 / 8, 3, aligned=True)
    torch.testing.assert_close(model.pool(maps, boxes), expected)
    assert model.pool(maps, boxes, (7, 5)).shape == (1, 16, 7, 5)


def test_rows_are_kept_by_score_and_suppression() -> None:
    model = Averages(score_threshold=0.3, nms_iou=0.5, max_detections=2)
    boxes = torch.tensor([[0.0, 0, 10, 20], [1, 0, 11, 20], [30, 0, 40, 20], [60, 0, 70, 20]])
    rows = model.select([boxes, boxes], [torch.tensor([0.5, 0.9, 0.2, 0.4]), torch.zeros(4)])
    assert [r.tolist() for r in rows] == [[1, 3], []]


def test_gradients_of_embed_regions_reach_the_stem_and_embed_has_none() -> None:
    model = Averages()
    images, targets = _seen()
    maps = model.extract_features(images)
    boxes, _ = model.scale(maps, targets)
    model.embed_regions(maps, boxes).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in model.stem.parameters())
    embeddings = model.eval().embed(images, [t.boxes for t in targets])
    assert [e.shape for e in embeddings] == [(1, 16), (2, 16)]
    assert not any(e.requires_grad for e in embeddings)


def test_crop_losses_are_the_classifiers_or_the_systems_own() -> None:
    images, targets = _seen()
    model = Averages(crop_loss="softmax", crop_detection=True)
    losses = model.crop_losses(images, targets)
    detection = {"rpn_objectness", "rpn_box", "detection", "box"}
    assert losses.keys() == detection | {"softmax"}
    assert model(images, targets).keys() == detection | {"identity"}
    assert [i.tolist() for i in model.remembered] == [[2, 0, -1]]
    model.eval().crop_losses(images, targets)
    assert len(model.remembered) == 1
    with pytest.raises(ModelError, match="Averages has no identity loss of its own for the crop"):
        Averages().crop_losses(images, targets)


def test_the_classifier_of_the_crop_stage_leaves_the_first_weights_alone() -> None:
    states = []
    for crop_loss in ("own", "softmax"):
        torch.manual_seed(3)
        model = Averages(crop_loss=crop_loss)
        states.append((model.state_dict(), torch.rand(1)))
    assert all(torch.equal(states[1][0][name], value) for name, value in states[0][0].items())
    assert torch.equal(states[0][1], states[1][1])
