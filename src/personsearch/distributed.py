"""Processes that train together: rank, number, barrier, and what each of them holds.

Counts and flags travel between the processors (gloo), tensors between their devices: no step waits
for a GPU to tell a number that the processor knows.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from personsearch.errors import TrainingError

_BUCKET = 2**25
"""Numbers in a collective: with more, the copy would need memory like the network itself."""
_PATIENCE = 5.0
"""Seconds that processes have to answer when one of them has ended."""


def rank() -> int:
    """Number of this process, 0 when it runs alone."""
    return dist.get_rank() if _joined() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _joined() else 1


def barrier() -> None:
    """Wait until every process has come here."""
    any_process([False])


def all_counts(counts: Sequence[int]) -> tuple[list[int], slice]:
    """Return the counts of all processes in rank order, and which of them are this process's.

    Every process has to give equally many.
    """
    if world_size() == 1:
        return list(counts), slice(0, len(counts))
    everyone = torch.stack(_all_gather(torch.tensor(counts, dtype=torch.int64)))
    return everyone.flatten().tolist(), slice(rank() * len(counts), (rank() + 1) * len(counts))


def all_rows(count: int) -> tuple[int, slice]:
    """Return how many rows all processes hold, and which this process's `count` are among them."""
    counts, _ = all_counts([count])
    start = sum(counts[: rank()])
    return sum(counts), slice(start, start + count)


def join(*parts: Tensor) -> tuple[Tensor, ...]:
    """Return tensors (N, ...), one row a sample, joined over all processes in rank order.

    Processes may hold different N. A loss of joined rows is the same number in all processes, and
    its gradients, averaged over the processes, are those of one process on the joined batch.
    """
    world = world_size()
    if world == 1:
        return parts
    counts, _ = all_counts([len(parts[0])])
    if not sum(counts):
        return parts
    start, end = sum(counts[: rank()]), sum(counts[: rank() + 1])
    packed = [_as_bytes(part) for part in parts]
    row = torch.cat(packed, dim=1)
    padded = row.new_zeros((max(counts), row.shape[1]))
    padded[: len(row)] = row
    everyone = torch.cat([r[:n] for r, n in zip(_all_gather(padded), counts, strict=True)])
    joined = []
    for part, columns in zip(
        parts, everyone.split([p.shape[1] for p in packed], dim=1), strict=True
    ):
        whole = columns.contiguous().view(part.dtype).view(-1, *part.shape[1:])
        if part.requires_grad:
            own = part.clone()
            # Each process computes the whole loss, so the average would divide its share.
            own.register_hook(lambda gradient: gradient * world)
            whole = torch.cat([whole[:start], own, whole[end:]])
        joined.append(whole)
    return tuple(joined)


def gather(embeddings: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the embeddings (N, D) and ids (N,) of all processes in rank order, without gradient.

    Processes may hold different N.
    """
    everyone, their_ids = join(embeddings.detach().float(), ids.detach())
    return everyone, their_ids


def dropout(x: Tensor, rate: float) -> Tensor:
    """Drop numbers of rows (N, ...), with the noise of one process on the rows of all."""
    if world_size() == 1:
        return functional.dropout(x, rate)
    total, own = all_rows(len(x))
    return x * functional.dropout(x.new_ones((total, *x.shape[1:])), rate)[own]


def average_(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type by their means over all processes, in place."""
    bucket: list[Tensor] = []
    for index, tensor in enumerate(tensors, 1):
        bucket.append(tensor)
        if index == len(tensors) or sum(t.numel() for t in bucket) >= _BUCKET:
            flat = torch.cat([t.flatten() for t in bucket])
            with _answering():
                dist.all_reduce(flat)
            flat /= world_size()
            means = flat.split([t.numel() for t in bucket])
            torch._foreach_copy_(bucket, [m.view_as(t) for m, t in zip(means, bucket, strict=True)])
            bucket = []


def mean_over_processes(values: Mapping[str, float]) -> dict[str, float]:
    """Return the means of numbers over all processes, which have the same names."""
    if world_size() == 1:
        return dict(values)
    numbers = torch.tensor(list(values.values()), dtype=torch.float64)
    with _answering():
        dist.all_reduce(numbers)
    return dict(zip(values, (numbers / world_size()).tolist(), strict=True))


def any_process(flags: Sequence[bool]) -> list[bool]:
    """Return which of `flags` are set in any process."""
    if world_size() == 1:
        return list(flags)
    numbers = torch.tensor(flags, dtype=torch.int64)
    with _answering():
        dist.all_reduce(numbers)
    return (numbers > 0).tolist()


def check_same(facts: Mapping[str, object]) -> None:
    """Check that all processes hold the same `facts`, by name.

    Raises:
        TrainingError: they do not; the message names what differs, in which process, and how.
    """
    if world_size() == 1:
        return
    text = json.dumps(facts, sort_keys=True, default=str).encode()
    (everyone,) = join(torch.frombuffer(bytearray(text), dtype=torch.uint8))
    counts, _ = all_counts([len(text)])
    first, *others = (json.loads(bytes(part.tolist())) for part in everyone.split(counts))
    differences = [
        f"{name} is {theirs.get(name)!r} in rank {other} and {first.get(name)!r} in rank 0"
        for other, theirs in enumerate(others, 1)
        for name in sorted({*first, *theirs})
        if theirs.get(name) != first.get(name)
    ]
    if differences:
        more = f" ({len(differences) - 5} more)" if len(differences) > 5 else ""
        raise TrainingError(
            f"the processes do not train the same: {', '.join(differences[:5])}{more}; start all "
            "of them with one recipe, the same data, and one folder for the run"
        )


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes that `torchrun` started, and leave them at the end.

    An error leaves its message to the others, who end with it, too.
    """
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    except BaseException as error:
        with suppress(RuntimeError, ValueError):  # the store, or the group, may be gone
            _store().set(f"ended/{rank()}", f"{type(error).__name__}: {error}")
        raise
    finally:
        dist.destroy_process_group()


@contextmanager
def _answering() -> Iterator[None]:
    """Turn the error of a collective, whose other end is gone, into one that names the rank."""
    try:
        yield
    except RuntimeError as error:  # neither gloo nor NCCL has an exception of its own
        raise TrainingError(_who_ended(error)) from None


def _who_ended(error: Exception) -> str:
    again = "the last checkpoint is kept; start the run again with --resume"
    try:
        store = _store()
        store.set(f"here/{rank()}", "")
        missing = [r for r in range(world_size()) if r != rank()]
        deadline = time.monotonic() + _PATIENCE
        reasons: list[str] = []
        while len(reasons) < len(missing) and time.monotonic() < deadline:
            time.sleep(0.1)
            missing = [r for r in missing if not store.check([f"here/{r}"])]
            reasons = [
                f"rank {r} ({store.get(f'ended/{r}').decode()})"
                for r in missing
                if store.check([f"ended/{r}"])
            ]
    except RuntimeError:  # rank 0 holds the store where no `torchrun` does
        return f"the process of rank 0 has ended: {again}"
    if not missing:
        return f"the processes cannot reach each other ({error}): {again}"
    ended = reasons or [f"rank {r}" for r in missing]
    return f"the process of {' and '.join(ended)} has ended: {again}"


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()


def _as_bytes(rows: Tensor) -> Tensor:
    """Return rows (N, ...) as (N, B) uint8."""
    flat = rows.detach().flatten(1) if rows.ndim > 1 else rows.detach()[:, None]
    return flat.contiguous().view(torch.uint8)


def _all_gather(value: Tensor) -> list[Tensor]:
    values = [torch.zeros_like(value) for _ in range(world_size())]
    with _answering():
        dist.all_gather(values, value)
    return values


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
