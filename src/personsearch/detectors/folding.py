"""Batch normalisation folded into the convolution before it, for search alone."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d


def fold_norm(module: nn.Module) -> None:
    """Fold each batch normalisation of a module, in place, into the convolution before it.

    What it is in evaluation mode is kept, to rounding; the module can no longer be trained. A
    normalisation follows a convolution if it is the next child of the same parent, as in all
    backbones here.
    """
    for parent in module.modules():
        before: tuple[str, nn.Module] = ("", parent)
        for name, child in list(parent.named_children()):
            conv = before[1]
            if isinstance(conv, nn.Conv2d) and isinstance(
                child, nn.BatchNorm2d | FrozenBatchNorm2d
            ):
                setattr(parent, before[0], _folded(conv, child))
                setattr(parent, name, nn.Identity())
            before = (name, child)


@torch.no_grad()
def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> nn.Conv2d:
    mean, variance = norm.running_mean, norm.running_var
    assert isinstance(mean, torch.Tensor)
    assert isinstance(variance, torch.Tensor)
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    return conv
