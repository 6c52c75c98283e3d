"""bfloat16 autocast where the device computes it in hardware."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from personsearch.errors import RecipeError


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Older releases of torch do not tell; they run in float32.
        tell: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
        capabilities = tell()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which networks run.

    Args:
        device: of the network.
        precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where it is fast. Two
            machines of which one is fast at it give results that differ by its rounding.

    Raises:
        RecipeError: another precision.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise RecipeError(f"precision is {precision!r}, expected 'auto', 'float32' or 'bfloat16'")
    enabled = precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
