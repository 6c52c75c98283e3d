"""The proxy triplet loss of RDLR (Han et al. 2019, section 3.3)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.distributed import join
from personsearch.losses.identities import check_ids

ProxyNegatives = Literal["batch", "table"]


class ProxyTriplet(nn.Module):
    """Triplets of a sample with the hardest remembered embeddings of its and other identities.

    A table T keeps the latest K (`slots`) embeddings of each of N identities. With D the squared
    Euclidean distance and margin m, the loss is the mean over the b labelled samples, those of all
    processes, of (eq. 5)

        [m + max_p D(f(I_i), f(I_i^p)) - min_(j != i, n) D(f(I_i), f(I_j^n))]_+

    where j runs over the identities of the batch (``"batch"``, as in the equation), or over all of
    the table (``"table"``, as its text can be read). In training mode the samples then replace the
    oldest proxies of their identity. A slot never written is no proxy; a sample without a positive
    or a negative proxy is left out.
    """

    values: Tensor
    written: Tensor

    def __init__(
        self,
        num_ids: int,  # N
        dim: int,
        slots: int = 2,  # K
        margin: float = 0.5,  # m
        negatives: ProxyNegatives = "batch",
    ) -> None:
        super().__init__()
        self.margin, self.negatives = margin, negatives
        self.register_buffer("values", torch.zeros(num_ids, slots, dim))
        self.register_buffer("written", torch.zeros(num_ids, dtype=torch.int64))

    def forward(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """Return the loss of embeddings (R, D) with ids (R,) >= 0; 0 if none has both proxies.

        Raises:
            TrainingError: an id is out of range.
        """
        check_ids(ids, len(self.values), "the proxy table")
        embeddings, ids = join(embeddings, ids)
        embeddings, ids = embeddings[ids >= 0], ids[ids >= 0]
        with torch.autocast(embeddings.device.type, enabled=False):
            rows = torch.arange(len(self.values), device=ids.device)
            if self.negatives == "batch":
                rows = ids.unique()
            loss = self._loss(embeddings.float(), ids, rows)
        if self.training:
            self.update_memory(embeddings, ids)
        return loss

    def _loss(self, anchors: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
        """Equation 5, with the proxies of the identities `rows`."""
        if not len(anchors):
            return anchors.sum() * 0.0
        slots = self.values.shape[1]
        proxies = self.values[rows].flatten(0, 1)
        written = (torch.arange(slots, device=ids.device) < self.written[rows, None]).flatten()
        same = rows.repeat_interleave(slots) == ids[:, None]
        squared = (
            anchors.square().sum(dim=1, keepdim=True)
            + proxies.square().sum(dim=1)
            - 2.0 * anchors @ proxies.t()
        )
        positive = squared.masked_fill(~(same & written), -torch.inf).amax(dim=1)
        negative = squared.masked_fill(~(~same & written), torch.inf).amin(dim=1)
        whole = torch.isfinite(positive) & torch.isfinite(negative)
        if not whole.any():
            return anchors.sum() * 0.0
        return functional.relu(self.margin + positive[whole] - negative[whole]).mean()

    @torch.no_grad()
    def update_memory(self, embeddings: Tensor, ids: Tensor) -> None:
        """Write `embeddings` (R, D) over the oldest proxies of `ids` (R,), one after the other."""
        slots = self.values.shape[1]
        for embedding, row in zip(embeddings.float(), ids.tolist(), strict=True):
            self.values[row, int(self.written[row]) % slots] = embedding
            self.written[row] += 1
