"""A folded network gives what it gives in evaluation mode."""

import pytest
import torch
from torch import Tensor, nn

from personsearch.detectors.backbones import build_backbone, build_trunk
from personsearch.detectors.folding import fold_norm


def _drawn(module: nn.Module) -> nn.Module:
    """Return the module with statistics and scales that are not 0 and 1."""
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith(("running_var", "running_mean")) or tensor.ndim == 1:
            tensor.copy_(0.5 + torch.rand_like(tensor.float()))
    return module.eval()


def _norms(module: nn.Module) -> int:
    return sum("BatchNorm" in type(m).__name__ for m in module.modules())


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("small", "batch"),
        ("resnet18", "frozen"),
        ("resnet50", "frozen-stem"),
        ("regnet_y_400mf", "batch"),
        ("vgg11_bn", "batch"),
        ("mobilenet_v3_small", "batch"),
        ("efficientnet_b0", "batch"),
        ("convnext_tiny", "batch"),
    ],
)
@torch.no_grad()
def test_backbones_fold(name: str, norm: str) -> None:
    backbone = build_backbone(name, norm=norm, width=8)
    x: Tensor = torch.rand(1, 3, 64, 96)
    for part in (backbone.stem, backbone.head):
        _drawn(part)
        if name.startswith("vgg") and part is backbone.head:
            break
        expected = part(x)
        fold_norm(part)
        folded = part(x)
        assert (folded - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert not _norms(part)
        x = expected


@torch.no_grad()
def test_what_no_convolution_comes_before_stays() -> None:
    """DenseNet normalises before its convolutions; some of them have none before."""
    part = _drawn(build_backbone("densenet121").stem)
    x = torch.rand(1, 3, 64, 64)
    expected, before = part(x), _norms(part)
    fold_norm(part)
    assert (part(x) - expected).abs().max() <= 1e-3 * expected.abs().max()
    assert 0 < _norms(part) < before


@torch.no_grad()
def test_trunks_fold() -> None:
    trunk = build_trunk("small", width=8)
    x = torch.rand(1, 3, 64, 64)
    for block in trunk.blocks.values():
        expected = _drawn(block)(x)
        fold_norm(block)
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)
        x = expected
