"""Online instance matching, the loss of OIM (Xiao et al. 2017)."""

import torch
from torch import Tensor, nn

from personsearch.distributed import join
from personsearch.losses.agwf import identity_loss
from personsearch.losses.identities import check_ids
from personsearch.losses.memory import CircularQueue, LookupTable, update_memories


class OnlineInstanceMatching(nn.Module):
    """A softmax over labelled identities and recent unlabelled people.

    With lookup table V (one unit row an identity) and circular queue U (unlabelled people), the
    probability that unit embedding x shows identity t is

        p_t = exp(v_t . x / tau) / (sum_j exp(v_j . x / tau) + sum_k exp(u_k . x / tau))   (eq. 1)

    and the loss is the mean of -log p_t over the labelled samples (eq. 4), those of all processes.
    In training mode then v_t <- normalise(gamma v_t + (1 - gamma) x), and unlabelled samples are
    pushed into U.
    """

    def __init__(
        self,
        num_ids: int,  # L, how many labelled identities
        dim: int,  # D, the length of an embedding
        queue_size: int,  # Q, how many unlabelled embeddings are kept
        momentum: float = 0.5,  # gamma
        temperature: float = 1 / 30,  # tau
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.lookup = LookupTable(num_ids, dim, momentum)
        self.queue = CircularQueue(queue_size, dim)

    def forward(self, embeddings: Tensor, ids: Tensor, confidence: Tensor | None = None) -> Tensor:
        """Return the loss of people's unit embeddings (N, D) with ids (N,); 0 if all ids are -1.

        With the `confidence` alpha (N,) that these are people, similarities are scaled by it, as
        adaptive gradient weighting does (`agwf.identity_loss`).

        Raises:
            TrainingError: an id is out of range.
        """
        check_ids(ids, len(self.lookup.values), "the lookup table")
        with torch.autocast(embeddings.device.type, enabled=False):
            alpha = torch.ones_like(ids, dtype=torch.float32) if confidence is None else confidence
            embeddings, ids, alpha = join(embeddings.float(), ids, alpha)
            memory = torch.cat([self.lookup.values, self.queue.values])
            loss = identity_loss(embeddings @ memory.t(), alpha, ids, self.temperature)
        if self.training:
            self.update_memory(embeddings, ids)
        return loss

    def update_memory(self, embeddings: Tensor, ids: Tensor) -> None:
        """Update the lookup table and the queue with `embeddings` (N, D) of `ids` (N,).

        They are those of all processes (`distributed.join`).
        """
        update_memories(self.lookup, self.queue, embeddings, ids)
