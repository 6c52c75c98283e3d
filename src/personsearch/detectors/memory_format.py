"""Channels that lie together in memory: where convolutions and RoIAlign are fastest."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def channels_together(model: nn.Module) -> None:
    """Lay the weights of a model out so, in place; maps follow its first convolution."""
    model.to(memory_format=torch.channels_last)
    for module in model.modules():
        if type(module) is not nn.Conv2d or module.stride == (1, 1):
            continue
        if module.kernel_size == (1, 1) and module.padding == (0, 0):
            module.__class__ = _StridedPointwise


def are_together(features: Tensor) -> bool:
    """Return whether the channels of a map (B, C, H, W) lie together, and its columns do not."""
    channels_last = features.is_contiguous(memory_format=torch.channels_last)
    return channels_last and not features.is_contiguous()


class _StridedPointwise(nn.Conv2d):
    """A 1 x 1 convolution with a stride, on the cells that it reads alone.

    On the CPU, gradients of torch's own may overrun their memory in this layout if there are few
    channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.stride
        return functional.conv2d(
            x[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups
        )
