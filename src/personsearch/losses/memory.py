"""Memories that outlive a step: buffers, saved with the model, the same in every process.

Each update first gathers the embeddings of all processes in rank order, so that N processes hold
what one process would hold after the joined batch.
"""

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch import distributed


class LookupTable(nn.Module):
    """One running unit embedding an identity; zero until the identity is first seen.

    Args:
        num_ids: how many identities.
        dim: D, the length of an embedding.
        momentum: the share of the old value that an update keeps.
    """

    values: Tensor

    def __init__(self, num_ids: int, dim: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("values", torch.zeros(num_ids, dim))

    @torch.no_grad()
    def update(self, embeddings: Tensor, ids: Tensor) -> None:
        """Moves the rows of `ids` (N,) toward `embeddings` (N, D), one sample after the other."""
        for embedding, row in zip(embeddings.float(), ids.tolist(), strict=True):
            moved = self.momentum * self.values[row] + (1.0 - self.momentum) * embedding
            self.values[row] = functional.normalize(moved, dim=0)


class CircularQueue(nn.Module):
    """The latest `size` embeddings; zero where nothing was written yet.

    Args:
        size: how many it holds; 0 holds none.
        dim: D, the length of an embedding.
    """

    values: Tensor
    position: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(size, dim))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, embeddings: Tensor) -> None:
        """Writes `embeddings` (N, D) over the oldest."""
        size = len(self.values)
        if size == 0 or len(embeddings) == 0:
            return
        start = (int(self.position) + max(len(embeddings) - size, 0)) % size
        embeddings = embeddings[-size:].float()
        rows = (start + torch.arange(len(embeddings), device=self.values.device)) % size
        self.values[rows] = embeddings
        self.position.fill_((start + len(embeddings)) % size)


class FeatureDictionary(nn.Module):
    """The latest `size` embeddings of people with their ids (Zhang et al. 2019, section 3.2).

    Attributes:
        values: (S, D), zero where nothing was written yet.
        ids: (S,) int64, `UNLABELLED` (-1) for people without an identity, -2 where nothing was
            written yet.

    Args:
        size: S, how many it holds; 0 holds none.
        dim: D, the length of an embedding.
    """

    values: Tensor
    ids: Tensor
    position: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(size, dim))
        self.register_buffer("ids", torch.full((size,), -2))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def negatives(self, ids: Tensor) -> Tensor:
        """(N, S) bool: which rows show someone else than each of `ids` (N,)."""
        return (self.ids != ids[:, None]) & (self.ids > -2)

    @torch.no_grad()
    def push(self, embeddings: Tensor, ids: Tensor) -> None:
        """Writes `embeddings` (N, D) of people and their `ids` (N,) over the oldest."""
        size = len(self.values)
        if size == 0 or len(ids) == 0:
            return
        start = (int(self.position) + max(len(ids) - size, 0)) % size
        embeddings, ids = embeddings[-size:].float(), ids[-size:]
        rows = (start + torch.arange(len(ids), device=self.values.device)) % size
        self.values[rows], self.ids[rows] = embeddings, ids
        self.position.fill_((start + len(ids)) % size)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name != "gather":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        message = "personsearch.losses.memory.gather has moved to personsearch.distributed"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return distributed.gather
