"""The proxy triplet loss of RDLR (Han et al. 2019, section 3.3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.distributed import gather
from personsearch.losses.identities import check_ids


class ProxyTriplet(nn.Module):
    """Triplets of a sample with the hardest remembered embeddings of its and other identities.

    A table T keeps the latest K (`slots`) embeddings of each of N identities. With D the squared
    Euclidean distance and margin m, the loss is the mean over the labelled samples of (eq. 5)

        [m + max_p D(f(I_i), T_(i, p)) - min_(j != i, n) D(f(I_i), T_(j, n))]_+

    In training mode the samples then replace the oldest proxies of their identity. A slot never
    written is no proxy; a sample without a positive or a negative proxy is left out.
    """

    values: Tensor
    written: Tensor

    def __init__(self, num_ids: int, dim: int, slots: int = 2, margin: float = 0.5) -> None:
        super().__init__()
        self.margin = margin
        self.register_buffer("values", torch.zeros(num_ids, slots, dim))
        self.register_buffer("written", torch.zeros(num_ids, dtype=torch.int64))

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """Return the loss of unit embeddings (R, D) with ids (R,) >= 0; 0 if none has both proxies.

        Raises:
            TrainingError: an id is out of range.
        """
        check_ids(ids, len(self.values), "the proxy table")
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.float()
            loss = self._loss(embeddings[ids >= 0], ids[ids >= 0])
        if self.training:
            everyone, their_ids = gather(embeddings, ids)
            self.update_memory(everyone[their_ids >= 0], their_ids[their_ids >= 0])
        return loss

    def _loss(self, anchors: Tensor, ids: Tensor) -> Tensor:
        slots = self.values.shape[1]
        # A copy: the table changes before gradients are asked for.
        proxies = self.values.flatten(0, 1).clone()
        filled = torch.arange(slots, device=ids.device) < self.written[:, None]
        owners = torch.arange(len(self.values), device=ids.device).repeat_interleave(slots)
        squared = (
            anchors.square().sum(dim=1, keepdim=True)
            + proxies.square().sum(dim=1)
            - 2.0 * anchors @ proxies.t()
        )
        same = owners == ids[:, None]
        exists = filled.flatten()
        infinite = torch.full_like(squared, torch.inf)
        hardest_positive = torch.where(same & exists, squared, -infinite).amax(dim=1)
        hardest_negative = torch.where(~same & exists, squared, infinite).amin(dim=1)
        whole = torch.isfinite(hardest_positive) & torch.isfinite(hardest_negative)
        if not whole.any():
            return anchors.sum() * 0.0
        difference = hardest_positive[whole] - hardest_negative[whole]
        return functional.relu(self.margin + difference).mean()

    @torch.no_grad()
    def update_memory(self, embeddings: Tensor, ids: Tensor) -> None:
        """Write `embeddings` (R, D) over the oldest proxies of `ids` (R,), one after the other."""
        slots = self.values.shape[1]
        for embedding, row in zip(embeddings.float(), ids.tolist(), strict=True):
            self.values[row, int(self.written[row]) % slots] = embedding
            self.written[row] += 1
