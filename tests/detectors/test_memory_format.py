"""Weights laid out with channels together give the same."""

import pytest
import torch
from torch import nn

from personsearch.detectors.memory_format import are_together, channels_together


@pytest.mark.parametrize("groups", [1, 4])
def test_a_strided_pointwise_convolution_reads_the_same_cells(groups: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 12, 1, (2, 3), groups=groups).double()
    laid = nn.Conv2d(8, 12, 1, (2, 3), groups=groups).double()
    laid.load_state_dict(plain.state_dict())
    channels_together(laid)
    x = torch.randn(2, 8, 7, 10, dtype=torch.float64, requires_grad=True)
    y = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    expected, found = plain(x), laid(y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(y.grad, x.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(laid.weight.grad, plain.weight.grad, rtol=0, atol=1e-12)
    assert list(laid.state_dict()) == list(plain.state_dict())


def test_maps_follow_the_first_convolution() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
    x = torch.rand(2, 3, 9, 9)
    assert not are_together(network(x))
    channels_together(network)
    assert are_together(network(x))
    # With one channel both layouts are one.
    assert not are_together(torch.rand(1, 1, 4, 4))
