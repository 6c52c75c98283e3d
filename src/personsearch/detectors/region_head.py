"""The convolutions that run on each region, with those computed once that regions share.

The first block of a ResNet's conv5 begins with two 1 x 1 convolutions of the region, one of them
the shortcut's. RoIAlign and a 1 x 1 convolution are linear and act on different axes, so their
order may change: both convolutions run once on the shared map, and regions are pooled from what
they give. That saves a quarter of the work on many regions. Biases are added after pooling, since
RoIAlign counts zeros beyond the border.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck

from personsearch.detectors.faster_rcnn import RegionPooling
from personsearch.detectors.memory_format import are_together


def shares_work(
    head: nn.Module,
    features: Tensor,  # the shared map (B, C, H, W)
    regions: RegionPooling,
) -> bool:
    """Return whether `run_shared` gives what the head makes of the pooled regions, and sooner."""
    first = next(_blocks(head), None)
    if not isinstance(first, Bottleneck) or not isinstance(first.downsample, nn.Sequential):
        return False
    conv: Any = first.conv1
    shortcut: Any = first.downsample[0]
    pointwise = conv.kernel_size == shortcut.kernel_size == conv.stride == (1, 1)
    if not (pointwise and regions.is_linear and are_together(features)):
        return False
    a, b, stride = conv.out_channels, shortcut.out_channels, shortcut.stride[0]
    on_map = features[:, 0].numel() * (a + b)
    return bool(on_map < regions.cells * (a + b / stride**2))


def run_shared(head: nn.Module, features: Tensor, regions: RegionPooling) -> Tensor:
    """Return ``head(regions(features))`` to rounding, if `shares_work`."""
    first: Any
    first, *others = _blocks(head)
    shortcut, norm = first.downsample
    x: Tensor = first.relu(first.bn1(_pointwise(first.conv1, features, regions, 1)))
    x = first.relu(first.bn2(first.conv2(x)))
    x = first.bn3(first.conv3(x))
    x += norm(_pointwise(shortcut, features, regions, shortcut.stride[0]))
    x = first.relu(x)
    for block in others:
        x = block(x)
    return x


def _blocks(head: nn.Module) -> Iterator[nn.Module]:
    for child in head.children() if isinstance(head, nn.Sequential) else [head]:
        if isinstance(child, nn.Sequential):
            yield from _blocks(child)
        else:
            yield child


def _pointwise(conv: nn.Conv2d, features: Tensor, regions: RegionPooling, stride: int) -> Tensor:
    pooled = regions(functional.conv2d(features, conv.weight), stride)
    if conv.bias is not None:
        pooled += conv.bias[:, None, None]
    return pooled
