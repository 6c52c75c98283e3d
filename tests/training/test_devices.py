"""A device is found, or one clear error says why not."""

import pytest
import torch
import torch.distributed as dist

from personsearch.errors import RecipeError
from personsearch.training.devices import choose_device, joined_processes


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def test_without_a_name_it_is_the_processor_where_there_is_no_gpu() -> None:
    assert choose_device() == torch.device("cpu")


def test_without_a_name_it_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device() == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(RecipeError, match="'cuda:2' was asked for, this machine has 2 GPUs"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_one_clear_error(name: str) -> None:
    with pytest.raises(RecipeError, match=f"'{name}' was asked for, this machine has 0 GPUs"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "cuda:99999", "meta", "tpu", " "])
def test_a_device_of_another_kind_is_one_clear_error(name: str) -> None:
    with pytest.raises(RecipeError, match="device"):
        choose_device(name)


def test_one_process_joins_nobody() -> None:
    with joined_processes("cpu") as device:
        assert device == torch.device("cpu")
        assert not dist.is_initialized()


def test_a_name_is_checked_before_the_others_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("cuda", "tpu"):
        with pytest.raises(RecipeError, match=name), joined_processes(name):
            pass
    assert not dist.is_initialized()


def test_processes_join_through_gloo_and_part_again(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", joined.append)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: joined.append("parted"))
    with pytest.raises(KeyError), joined_processes("cpu") as device:  # noqa: PT012
        assert device == torch.device("cpu")
        raise KeyError
    assert joined == ["gloo", "parted"]


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", joined.append)
    monkeypatch.setattr(dist, "init_process_group", joined.append)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with joined_processes() as device:
        assert device == torch.device("cuda", 1)
    assert joined == [torch.device("cuda", 1), "cpu:gloo,cuda:nccl"]
