"""The device of a run, alone or as one of several processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from personsearch.distributed import process_group
from personsearch.errors import RecipeError


def choose_device(name: str = "") -> torch.device:
    """Return the device ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; by default a GPU if there is one.

    Raises:
        RecipeError: this machine has no such device.
    """
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wrong = RecipeError(f"device is {name!r}, expected 'cpu', 'cuda' or 'cuda:N'")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise wrong from None
    # torch wraps large indices around.
    if device.type not in ("cpu", "cuda") or str(device) != name:
        raise wrong
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(
            f"device {name!r} was asked for, this machine has {torch.cuda.device_count()} GPUs; "
            "use --device cpu"
        )
    return device


@contextmanager
def joined_processes(name: str = "") -> Iterator[torch.device]:
    """Return the device (`choose_device`) of this process; under `torchrun`, join the others."""
    device = choose_device(name)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        device = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(device)
    with process_group(device):
        yield device
