"""Memories that outlive a step: buffers, saved with the model, the same in every process.

Before each update, losses join the embeddings of all processes in rank order, so that N processes
hold what one process would hold after the joined batch.
"""

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch import distributed


class LookupTable(nn.Module):
    """One running unit embedding an identity; zero before the first update."""

    values: Tensor

    def __init__(self, num_ids: int, dim: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("values", torch.zeros(num_ids, dim))

    @torch.no_grad()
    def update(self, embeddings: Tensor, ids: Tensor) -> None:
        """Move the rows of `ids` (N,) toward `embeddings` (N, D), one sample after the other.

        `momentum` is the share of the old value.
        """
        for embedding, row in zip(embeddings.float(), ids.tolist(), strict=True):
            moved = self.momentum * self.values[row] + (1.0 - self.momentum) * embedding
            self.values[row] = functional.normalize(moved, dim=0)


class _Ring(nn.Module):
    """The latest `size` embeddings, each written over the oldest; rows never written are zero."""

    values: Tensor  # (S, D)
    position: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(size, dim))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def _advance(self, count: int) -> Tensor:
        """Return the rows of the latest of `count` new embeddings, and move the position on."""
        size = len(self.values)
        kept = min(count, size)
        rows = torch.arange(kept, device=self.values.device)
        if not kept:
            return rows
        start = int(self.position) + count - kept
        self.position.fill_((start + kept) % size)
        return (start + rows) % size


class CircularQueue(_Ring):
    """The latest `size` embeddings, maybe 0; rows never written are zero."""

    @torch.no_grad()
    def push(self, embeddings: Tensor) -> None:
        """Write `embeddings` (N, D) over the oldest."""
        rows = self._advance(len(embeddings))
        self.values[rows] = embeddings[len(embeddings) - len(rows) :].float()


def update_memories(
    lookup: LookupTable, queue: CircularQueue, embeddings: Tensor, ids: Tensor
) -> None:
    """Move the rows of labelled embeddings (N, D), and push those with negative `ids` (N,).

    They are those of all processes (`distributed.join`).
    """
    known = ids >= 0
    lookup.update(embeddings[known], ids[known])
    queue.push(embeddings[~known])


class FeatureDictionary(_Ring):
    """The latest S embeddings of people with their ids (Zhang et al. 2019, section 3.2)."""

    ids: Tensor  # (S,) int64, -1 for people without an identity, -2 in rows never written

    def __init__(self, size: int, dim: int) -> None:
        super().__init__(size, dim)
        self.register_buffer("ids", torch.full((size,), -2))

    def negatives(self, ids: Tensor) -> Tensor:
        """Return (N, S) bool: whether each row shows another person than each of `ids` (N,)."""
        return (self.ids != ids[:, None]) & (self.ids > -2)

    @torch.no_grad()
    def push(self, embeddings: Tensor, ids: Tensor) -> None:
        """Write `embeddings` (N, D) of people and their `ids` (N,) over the oldest."""
        rows = self._advance(len(ids))
        first = len(ids) - len(rows)
        self.values[rows], self.ids[rows] = embeddings[first:].float(), ids[first:]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name != "gather":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        message = "personsearch.losses.memory.gather has moved to personsearch.distributed"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return distributed.gather
