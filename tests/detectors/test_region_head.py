"""The head with its first convolutions on the shared map against the head on pooled regions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from personsearch.detectors.backbones import build_backbone
from personsearch.detectors.faster_rcnn import RegionPooling
from personsearch.detectors.folding import fold_norm
from personsearch.detectors.memory_format import channels_together
from personsearch.detectors.region_head import run_shared, shares_work
from personsearch.systems.regions import RegionFeatures


def _head() -> nn.Sequential:
    """conv5 of a ResNet with a sixteenth of the channels."""
    torch.manual_seed(0)
    network: Any = resnet50(width_per_group=64, zero_init_residual=False)
    block = type(network.layer4[0])
    down = nn.Sequential(nn.Conv2d(64, 128, 1, 2, bias=False), nn.BatchNorm2d(128))
    head = nn.Sequential(
        nn.Sequential(block(64, 32, 2, down), block(128, 32), block(128, 32))
    ).double()
    channels_together(head)
    return head


def _map() -> Tensor:
    features = torch.randn(2, 64, 9, 13, dtype=torch.float64)
    return features.to(memory_format=torch.channels_last).requires_grad_()


def _regions(count: int = 20, **changes: Any) -> RegionPooling:
    corners = torch.rand(count, 2, dtype=torch.float64) * 160 - 30
    boxes = torch.cat([corners, corners + 20 + torch.rand(count, 2) * 80], dim=1)
    values: dict[str, Any] = {"size": (14, 14), "stride": 16, "pooling": "align"}
    return RegionPooling([boxes[: count // 2], boxes[count // 2 :]], **values | changes)


@pytest.mark.parametrize("folded", [False, True])
def test_the_order_does_not_matter(folded: bool) -> None:
    head, features, regions = _head().eval(), _map(), _regions()
    for norm in head.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, -1, 1)
            nn.init.uniform_(norm.running_mean, -1, 1)
    if folded:
        fold_norm(head)
    assert shares_work(head, features, regions)
    # Boxes are float32 where they are pooled.
    torch.testing.assert_close(
        run_shared(head, features, regions), head(regions(features)), rtol=0, atol=1e-9
    )


def test_gradients_and_statistics_do_not_differ() -> None:
    results = []
    for shared in (True, False):
        torch.manual_seed(0)
        head, features, regions = _head().train(), _map(), _regions()
        output = run_shared(head, features, regions) if shared else head(regions(features))
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        gradients = [p.grad for p in head.parameters()]
        results.append([*gradients, features.grad, *(b.double() for b in head.buffers())])
    for one, other in zip(*results, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)


def test_it_is_done_where_it_saves_work_alone() -> None:
    head, features = _head(), _map()
    assert not shares_work(head, features, _regions(2))  # the map has more cells
    assert not shares_work(head, features, _regions(pooling="max"))  # not linear
    assert not shares_work(head, features.contiguous(), _regions())  # torchvision's pooling
    small = build_backbone("small", width=8)
    assert not shares_work(small.head, features, _regions())  # begins with a 3 x 3 convolution
    assert not shares_work(nn.Sequential(), features, _regions())


def test_regions_are_not_pooled_where_nothing_reads_them() -> None:
    features = RegionFeatures(_map(), _regions(), _head().eval())
    assert features.deep.shape == (20, 128, 7, 7)
    assert "pooled" not in vars(features)
    assert features[torch.tensor([4, 12])].pooled.shape == (2, 64, 14, 14)
