"""A process that runs alone; several are shown by tests/losses/test_memory.py."""

import torch

from personsearch.distributed import barrier, gather, rank, world_size


def test_alone_there_is_one_process_of_rank_0() -> None:
    assert (rank(), world_size()) == (0, 1)
    barrier()


def test_gather_alone_returns_what_came() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    embeddings, ids = gather(x, torch.tensor([1, 2, -1]))
    assert torch.equal(embeddings, x.detach())
    assert not embeddings.requires_grad
    assert ids.tolist() == [1, 2, -1]
