"""RoIAlign by rows against torchvision's kernel and its gradient."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from personsearch.detectors.roi_align import align_rows


def _map(dtype: torch.dtype = torch.float64) -> Tensor:
    features = torch.randn(2, 5, 9, 13, dtype=dtype)
    return features.to(memory_format=torch.channels_last).requires_grad_()


def _boxes(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Of two pictures of 208 x 144 pixels; some cross the border, one lies outside, one is flat."""
    corners = torch.rand(16, 2, dtype=dtype) * 260 - 40
    boxes = torch.cat([corners, corners + torch.rand(16, 2, dtype=dtype) * 120], dim=1)
    boxes[0] = torch.tensor([400.0, 400, 500, 500])
    boxes[1, 2:] = boxes[1, :2]
    return [boxes[:7], boxes[7:]]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_regions_and_gradients_equal_torchvisions(ratio: int, aligned: bool) -> None:
    torch.manual_seed(0)
    features, boxes = _map(), _boxes()
    plain = features.detach().contiguous().requires_grad_()
    expected = roi_align(plain, boxes, (14, 7), 1 / 16, ratio, aligned)
    found = align_rows(features, boxes, (14, 7), 1 / 16, ratio, aligned)
    assert not found[0].any()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    assert plain.grad is not None
    torch.testing.assert_close(features.grad, plain.grad, rtol=0, atol=1e-5)
    every_other = align_rows(features, boxes, (14, 7), 1 / 16, ratio, aligned, step=2)
    assert torch.equal(every_other, found[:, :, ::2, ::2])


def test_bfloat16_sums_in_float32() -> None:
    torch.manual_seed(0)
    features = _map(torch.bfloat16)
    boxes = [torch.tensor([[8.0, 8, 200, 140]]).expand(500, 4), torch.zeros(0, 4)]
    found = align_rows(features, boxes, (4, 2), 1 / 16, 2, False)
    assert found.dtype == torch.bfloat16
    wide = features.detach().float().contiguous().requires_grad_()
    expected = roi_align(wide, boxes, (4, 2), 1 / 16, 2)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05)
    found.sum().backward()
    expected.sum().backward()
    assert wide.grad is not None
    assert features.grad is not None
    # A sum of 500 equal numbers in bfloat16 would stop growing at 256 of them.
    torch.testing.assert_close(features.grad.float(), wide.grad, rtol=0.02, atol=0.5)


def test_no_region_gives_none() -> None:
    none = align_rows(_map(), [torch.zeros(0, 4)] * 2, (14, 7), 1 / 16, 2, False, step=2)
    assert none.shape == (0, 5, 7, 4)
