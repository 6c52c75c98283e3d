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
    if name.startswith("cuda") or (not name and torch.cuda.is_available()):
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl")
    else:
        device = torch.device("cpu")
        dist.init_process_group("gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
