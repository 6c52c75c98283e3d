"""Suppression in blocks against torchvision's, box after box."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from personsearch.detectors.suppression import suppress, suppress_blocks


def _boxes(count: int, spread: float) -> tuple[Tensor, Tensor]:
    """Two pictures' boxes (2, N, 4) and scores (2, N), some of them equal."""
    corners = torch.rand(2, count, 2) * spread
    boxes = torch.cat([corners, corners + 5 + torch.rand(2, count, 2) * 60], dim=2)
    return boxes, (torch.rand(2, count) * 50).round() / 50


def _one_by_one(
    boxes: Tensor, scores: Tensor, valid: Tensor, iou: float, most: int
) -> list[Tensor]:
    rows = [torch.where(one)[0] for one in valid]
    return [r[nms(b[r], s[r], iou)[:most]] for r, b, s in zip(rows, boxes, scores, strict=True)]


@pytest.mark.parametrize("block", [1, 7, 64, 1024])
@pytest.mark.parametrize("spread", [20.0, 300.0])
@pytest.mark.parametrize("most", [10, 600])
def test_blocks_keep_what_torchvision_keeps(block: int, spread: float, most: int) -> None:
    torch.manual_seed(0)
    boxes, scores = _boxes(600, spread)
    valid = torch.rand(2, 600) < 0.9
    for iou in (0.3, 0.7):
        expected = _one_by_one(boxes, scores, valid, iou, most)
        found = suppress_blocks(boxes, scores, valid, iou, most, block=block)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


def test_a_long_chain_settles() -> None:
    """Each box overlaps the next alone: every other one is kept."""
    left = torch.arange(200.0) * 4
    boxes = torch.stack([left, torch.zeros(200), left + 10, torch.full((200,), 9.0)], dim=1)
    scores = torch.linspace(1, 0, 200)
    found = suppress_blocks(boxes[None], scores[None], torch.ones(1, 200).bool(), 0.4, 200)
    assert torch.equal(found[0], torch.arange(0, 200, 2))


def test_groups_do_not_suppress_each_other() -> None:
    torch.manual_seed(0)
    boxes, scores = _boxes(500, 40.0)
    groups = torch.randint(0, 3, (2, 500))
    found = suppress_blocks(boxes, scores, torch.ones(2, 500).bool(), 0.5, 500, groups)
    for one, b, s, g in zip(found, boxes, scores, groups, strict=True):
        expected = batched_nms(b, s, g, 0.5)
        assert set(one.tolist()) == set(expected.tolist())
        assert torch.equal(s[one], s[expected])


@pytest.mark.parametrize("count", [300, 6000])
def test_few_and_many_boxes_are_suppressed_alike(count: int) -> None:
    torch.manual_seed(0)
    boxes, scores = _boxes(count, 2000.0)
    valid = torch.rand(2, count) < 0.9
    for one, other in zip(
        suppress(boxes, scores, valid, 0.5, 100),
        _one_by_one(boxes, scores, valid, 0.5, 100),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_a_picture_without_boxes_keeps_none() -> None:
    boxes, scores = _boxes(300, 50.0)
    valid = torch.zeros(2, 300).bool()
    valid[1, 5] = True
    assert [k.tolist() for k in suppress_blocks(boxes, scores, valid, 0.5, 10)] == [[], [5]]
    assert suppress(boxes[:, :0], scores[:, :0], valid[:, :0], 0.5, 10)[0].tolist() == []
