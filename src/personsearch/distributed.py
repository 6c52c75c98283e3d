"""Processes that train together: rank, number, barrier, and what each of them holds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Number of this process, 0 when it runs alone."""
    return dist.get_rank() if _joined() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _joined() else 1


def barrier() -> None:
    """Wait until every process has come here."""
    if world_size() > 1:
        dist.barrier()


def gather(embeddings: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the embeddings (N, D) and ids (N,) of all processes in rank order, without gradient.

    Processes may hold different N.
    """
    embeddings, ids = embeddings.detach().float(), ids.detach()
    if world_size() == 1:
        return embeddings, ids
    count = torch.tensor([len(ids)], device=ids.device)
    counts = [int(c) for c in _all_gather(count)]
    padded = embeddings.new_zeros((max(counts), embeddings.shape[1]))
    padded[: len(ids)] = embeddings
    padded_ids = ids.new_zeros((max(counts),))
    padded_ids[: len(ids)] = ids
    return (
        torch.cat([e[:n] for e, n in zip(_all_gather(padded), counts, strict=True)]),
        torch.cat([i[:n] for i, n in zip(_all_gather(padded_ids), counts, strict=True)]),
    )


def average_(tensor: Tensor) -> None:
    """Replace a tensor by its mean over all processes, in place."""
    dist.all_reduce(tensor)
    tensor /= world_size()


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` is set in any process."""
    if world_size() == 1:
        return flag
    flags = torch.tensor(float(flag), device=device)
    dist.all_reduce(flags)
    return bool(flags > 0)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes that `torchrun` started, and leave them at the end."""
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _all_gather(value: Tensor) -> list[Tensor]:
    values = [torch.zeros_like(value) for _ in range(world_size())]
    dist.all_gather(values, value)
    return values


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
