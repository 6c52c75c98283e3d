"""bfloat16 is used where it was asked for or is fast, and nowhere else."""

import pytest
import torch

from personsearch import precision
from personsearch.errors import RecipeError
from personsearch.precision import autocast, has_fast_bfloat16

CPU = torch.device("cpu")


def product_type(name: str) -> torch.dtype:
    """What a matrix product of float32 comes out as under that precision."""
    x = torch.ones(2, 2)
    with autocast(CPU, name):
        return (x @ x).dtype


def test_float32_stays_float32() -> None:
    assert product_type("float32") == torch.float32


def test_bfloat16_is_used_when_asked_for() -> None:
    assert product_type("bfloat16") == torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, torch.float32),
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert product_type("auto") == expected
    assert has_fast_bfloat16(CPU) == (expected == torch.bfloat16)


def test_a_torch_that_does_not_tell_runs_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_fast_bfloat16(CPU)


@pytest.mark.parametrize(("generation", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_auto_follows_the_generation_of_the_gpu(
    monkeypatch: pytest.MonkeyPatch, generation: tuple[int, int], fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert has_fast_bfloat16(torch.device("cuda")) == fast


def test_other_devices_run_in_float32() -> None:
    assert not has_fast_bfloat16(torch.device("mps"))


def test_another_precision_lists_the_valid_ones() -> None:
    with pytest.raises(RecipeError, match="'half', expected 'auto', 'float32' or 'bfloat16'"):
        precision.autocast(CPU, "half")


def test_bfloat16_that_is_slow_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    precision._warn_of_slow_bfloat16.cache_clear()
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    for _ in range(2):
        assert precision.chosen_precision(CPU, "bfloat16") == "bfloat16"
    assert precision.chosen_precision(CPU, "auto") == "float32"
    assert [r.message for r in caplog.records] == [
        "precision = 'bfloat16' on a cpu that has none in hardware is slower than float32; "
        "use 'auto' or 'float32'"
    ]
    precision._warn_of_slow_bfloat16.cache_clear()
