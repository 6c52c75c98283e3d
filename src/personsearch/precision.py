"""When networks run in bfloat16."""

import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import torch

from personsearch.errors import RecipeError

_log = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16"]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Older releases of torch lack this function; they run in float32.
        tell: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
        capabilities = tell()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def chosen_precision(device: torch.device, precision: str) -> Precision:
    """Return what networks on a device compute in.

    Args:
        device: of the network.
        precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where it is fast. With
            ``"auto"``, results may differ between machines by the rounding of bfloat16.

    Raises:
        RecipeError: another precision.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise RecipeError(f"precision is {precision!r}, expected 'auto', 'float32' or 'bfloat16'")
    fast = has_fast_bfloat16(device)
    if precision == "bfloat16" and not fast:
        _warn_of_slow_bfloat16(device.type)
    return "bfloat16" if precision == "bfloat16" or (precision == "auto" and fast) else "float32"


@cache
def _warn_of_slow_bfloat16(device: str) -> None:
    _log.warning(
        "precision = 'bfloat16' on a %s that has none in hardware is slower than float32; "
        "use 'auto' or 'float32'",
        device,
    )


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which networks run; see `chosen_precision`."""
    enabled = chosen_precision(device, precision) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
