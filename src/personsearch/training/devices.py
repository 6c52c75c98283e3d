"""Which device a run uses, alone or as one of several processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from personsearch.errors import RecipeError


def choose_device(name: str = "") -> torch.device:
    """The device of that name; without one, a GPU where there is one.

    Raises:
        RecipeError: no such device here.
    """
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f"device is {name!r}, expected 'cpu', 'cuda' or 'cuda:N'") from None
    # torch lets a large index wrap round.
    if device.type not in ("cpu", "cuda") or str(device) != name:
        raise RecipeError(f"device is {name!r}, expected 'cpu', 'cuda' or 'cuda:N'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(
            f"device {name!r} was asked for, this machine has {torch.cuda.device_count()} GPUs; "
            "use --device cpu"
        )
    return device


@contextmanager
def joined_processes(name: str = "") -> Iterator[torch.device]:
    """The device of this process; under torchrun it first joins the others.

    Raises:
        RecipeError: no such device here.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield choose_device(name)
        return
    device = choose_device(name)
    if device.type == "cuda":
        device = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(device)
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
