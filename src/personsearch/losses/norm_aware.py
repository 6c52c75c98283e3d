"""Norm-aware embedding (Chen et al. 2020, NAE): the length says person, the direction says who."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation of rows (N, C), in float32, defined for any N.

    One row alone has no variance, so in training it is scaled by the running statistics.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        if self.training and len(x) < 2:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class NormAware(nn.Module):
    """Split a vector x = r theta into its direction theta and a person score from its length r.

    The score is sigmoid(r~), r~ = (r - E[r]) / sqrt(Var[r] + eps) * gamma + beta: lengths are
    positive, so batch normalisation with a learned scale and shift makes them logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rescale = RowNorm(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit embeddings (N, D) and person logits (N,) of `x` (N, D), in float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            length = x.norm(dim=1, keepdim=True)
            return x / length.clamp(min=1e-12), self.rescale(length).squeeze(1)


def person_loss(logits: Tensor, person: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (N,) against `person` (N,) bool; 0 for N = 0."""
    with torch.autocast(logits.device.type, enabled=False):
        if not len(person):
            return logits.float().sum() * 0.0
        return functional.binary_cross_entropy_with_logits(logits.float(), person.float())
