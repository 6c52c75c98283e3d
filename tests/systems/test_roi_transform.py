"""The ROI transform is a crop, resized; its boxes have a gradient, and a descent follows it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.errors import ModelError
from personsearch.systems.roi_transform import roi_transform, roi_transform_rows


def _picture(height: int = 40, width: int = 50) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(8, 4), (16, 8), (64, 48), (7, 5)])
@pytest.mark.parametrize("box", [(0, 0, 50, 40), (10, 4, 26, 36), (3, 5, 4, 6)])
def test_is_cropping_and_bilinear_resizing(
    box: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    image = _picture()
    x1, y1, x2, y2 = box
    crop = image[None, :, y1:y2, x1:x2]
    expected = functional.interpolate(crop, size, mode="bilinear", align_corners=False)
    found = roi_transform([image], [torch.tensor([box]).float()], size)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_and_a_list_give_the_same_in_order() -> None:
    images = torch.stack([_picture(), _picture().flip(2)])
    boxes = [torch.tensor([[1.5, 2, 20, 30], [4, 4, 9, 30]]), torch.tensor([[0.0, 0, 30, 31.25]])]
    together = roi_transform(images, boxes, (8, 4))
    assert together.shape == (3, 3, 8, 4)
    torch.testing.assert_close(roi_transform(list(images), boxes, (8, 4)), together)
    for k, (image, box) in enumerate([(0, boxes[0][:1]), (0, boxes[0][1:]), (1, boxes[1])]):
        torch.testing.assert_close(roi_transform([images[image]], [box], (8, 4))[0], together[k])
    assert roi_transform(images, [boxes[0][:0]] * 2, (8, 4)).shape == (0, 3, 8, 4)


def test_rows_of_several_pictures_give_the_same() -> None:
    pictures = torch.stack([_picture(), _picture().flip(1), 1 - _picture()])
    # Inside, across each border, outside, and narrower than a pixel at a border.
    boxes = torch.tensor(
        [[3.0, 4, 20, 36], [-6, -5, 9, 8], [40, 30, 60, 47], [60, 50, 70, 60], [8, 39.6, 9, 40]]
    )
    expected = roi_transform(pictures, [boxes[:2], boxes, boxes[3:]], (12, 6))
    rows = torch.cat([boxes[:2], boxes, boxes[3:]])
    owners = torch.tensor([0.0] * 2 + [1] * 5 + [2] * 2)
    found = roi_transform_rows(pictures, torch.cat([owners[:, None], rows], dim=1), (12, 6))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_the_affine_matrix_is_equation_2() -> None:
    """Shrinking, it is grid_sample on the grid of A_theta in pixels of the picture."""
    image = _picture()
    m1, n1, m2, n2 = box = torch.tensor([5.3, 2.7, 44.1, 38.9])
    theta = 0.5 * torch.tensor([[m2 - m1, 0, m2 + m1], [0, n2 - n1, n2 + n1]])
    sides = torch.tensor([[50.0], [40.0]])
    theta = theta * 2 / sides - torch.tensor([[0.0, 0, 1], [0, 0, 1]])
    grid = functional.affine_grid(theta[None], [1, 3, 12, 9], align_corners=False)
    expected = functional.grid_sample(image[None], grid, align_corners=False)
    torch.testing.assert_close(roi_transform([image], [box[None]], (12, 9)), expected)


def test_the_gradient_of_the_box_is_that_of_finite_differences() -> None:
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(50.0), indexing="ij")
    smooth = torch.stack([torch.sin(x / 9), torch.cos(y / 7), torch.sin((x + y) / 11)])
    box = torch.tensor([[8.2, 6.4, 33.7, 51.3]])
    weights = torch.rand(1, 3, 16, 8, generator=torch.Generator().manual_seed(1))

    def value(b: Tensor) -> Tensor:
        return (roi_transform([smooth], [b], (16, 8)) * weights).sum()

    box.requires_grad_()
    (gradient,) = torch.autograd.grad(value(box), box)
    for k in range(4):
        step = torch.zeros(1, 4)
        step[0, k] = 0.05
        numeric = (value(box.detach() + step) - value(box.detach() - step)) / 0.1
        assert gradient[0, k].item() == pytest.approx(numeric.item(), rel=0.03, abs=0.02)


def test_a_descent_on_one_box_moves_it_back_to_the_person() -> None:
    """Driven by a frozen embedder alone, as the refinement is."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(80.0), torch.arange(80.0), indexing="ij")
    person = torch.exp(-(((x - 40) / 9) ** 2) - ((y - 40) / 20) ** 2)
    stripes = 0.5 + 0.5 * torch.sin(y / 5)
    image = torch.stack([person, person * stripes, 0.3 + 0.0 * x])
    embedder = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.Tanh(), nn.AdaptiveAvgPool2d((4, 2)))
    embedder.requires_grad_(False)
    true = torch.tensor([[24.0, 10, 56, 70]])
    wanted = embedder(roi_transform([image], [true], (32, 16)))
    box = (true + torch.tensor([[6.0, 5, 6, 5]])).requires_grad_()
    optimizer = torch.optim.Adam([box], 0.3)
    before = (box.detach() - true).abs().mean().item()
    for _ in range(150):
        optimizer.zero_grad()
        seen = embedder(roi_transform([image], [box], (32, 16)))
        (seen - wanted).square().sum().backward()
        optimizer.step()
    after = (box.detach() - true).abs().mean().item()
    assert after < 0.3 * before


def test_outside_of_the_picture_its_border_is_repeated() -> None:
    image = _picture()
    found = roi_transform([image], [torch.tensor([[-20.0, 5, -10, 15]])], (4, 2))[0]
    expected = functional.interpolate(image[None, :, 5:15, :1], (4, 2), mode="bilinear")[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 9, 8, 5), (1, 2, float("nan"), 4)])
def test_a_box_without_area_is_an_error(box: tuple[float, ...]) -> None:
    with pytest.raises(ModelError, match="has no area or is not finite; expected x1 < x2"):
        roi_transform([_picture()], [torch.tensor([box])], (4, 2))


def test_another_number_of_pictures_than_boxes_is_an_error() -> None:
    with pytest.raises(ModelError, match="2 pictures and 1 sets of boxes"):
        roi_transform([_picture()] * 2, [torch.ones(1, 4)], (4, 2))
