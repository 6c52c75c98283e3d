"""What region systems share: scales, pooling, features on request, and selection."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_align

from personsearch.detectors.backbones import build_backbone
from personsearch.detectors.faster_rcnn import RegionPooling
from personsearch.systems.base import Target
from personsearch.systems.regions import (
    DetectionStep,
    RegionFeatures,
    RegionSettings,
    RegionSystem,
)

SETTINGS: dict[str, Any] = {"min_size": 64, "max_size": 128, "roi_size": (4, 2)}


class Averages(RegionSystem):
    """The least a system can be: a region's averaged channels are its embedding."""

    def __init__(self, **settings: Any) -> None:
        backbone = build_backbone("small", width=4)
        super().__init__(backbone, 3, 16, RegionSettings(**SETTINGS | settings))

    def predict(self, features: RegionFeatures) -> tuple[Tensor, Tensor]:
        averages = features.pooled.mean(dim=(2, 3))
        return averages[:, :2], averages[:, :4]

    def identity_losses(self, step: DetectionStep) -> dict[str, Tensor]:
        assert len(step.features.pooled) == len(step.regions.ids)
        return {"identity": step.features.pooled.mean()}

    def embed_features(self, features: RegionFeatures) -> Tensor:
        return functional.normalize(features.pooled.mean(dim=(2, 3)), dim=1)


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
    expected = roi_align(maps.features, boxes, (4, 2), 1 / 8, 3, aligned=False)
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


class Counted(nn.Module):
    """Doubles what it is given, and counts how often and on how many rows it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, *maps: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.rows.append(len(maps[0]))
        return maps[0] * 2 if len(maps) == 1 else tuple(m * 2 for m in maps)


@pytest.mark.parametrize("own", [False, True])
def test_features_are_computed_once_and_only_where_they_are_read(own: bool) -> None:
    head, detection_head, joint = Counted(), Counted(), Counted()
    boxes = torch.tensor([[float(i), i, i + 3, i + 4] for i in range(5)])
    regions = RegionPooling([boxes[:2], boxes[2:]], (2, 2), 1, "align")
    features = RegionFeatures(
        torch.rand(2, 3, 9, 9), regions, nn.Sequential(head), detection_head if own else None
    )
    rows = torch.tensor([1, 3])
    assert torch.equal(features.detection, features.pooled * 2)
    assert (head.rows, detection_head.rows) == (([], [5]) if own else ([5], []))
    # With a detection head of its own, the head runs on the chosen rows alone.
    assert torch.equal(features[rows].deep, features.pooled[rows] * 2)
    assert head.rows == ([2] if own else [5])
    assert torch.equal(features.joint(joint)[1], features.deep * 2)
    assert torch.equal(features[rows].joint(joint)[0], features.pooled[rows] * 2)
    assert joint.rows == [5]
    unread = RegionFeatures(features._map, regions, nn.Sequential(head))
    assert torch.equal(unread[rows].pooled, features.pooled[rows])
    assert (len(unread), len(unread[rows])) == (5, 2)


def test_the_half_cell_that_published_pooling_does_not_shift() -> None:
    images = [torch.rand(3, 64, 96)]
    boxes = [torch.tensor([[3.0, 5, 40, 60]])]
    pooled = {}
    for aligned in (False, True):
        torch.manual_seed(0)
        model = Averages(roi_aligned=aligned).eval()
        maps = model.extract_features(images)
        pooled[aligned] = model.pool(maps, boxes)
        expected = roi_align(maps.features, boxes, (4, 2), 1 / 8, 2, aligned=aligned)
        torch.testing.assert_close(pooled[aligned], expected)
    assert RegionSettings().roi_aligned is False
    assert not torch.allclose(pooled[False], pooled[True])
