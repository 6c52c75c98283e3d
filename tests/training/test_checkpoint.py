"""A checkpoint comes back as it was, or one clear error says which part is wrong."""

import errno
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from personsearch.errors import CheckpointError
from personsearch.systems.base import PersonSearchModel
from personsearch.training import checkpoint
from personsearch.training.checkpoint import (
    FORMAT,
    Progress,
    describe_start,
    find_checkpoint,
    load_checkpoint,
    load_progress,
    optimizer_tensors,
    recover_checkpoint,
    restore,
    restore_matching,
    restore_optimizer,
    save_checkpoint,
)
from personsearch.training.recipe import Recipe, make_recipe

NUM_IDS = 3
METRICS = {"iteration": 7, "validation": {"mean_ap": 0.5, "top_1": 0.25}}


def small_recipe(**changes: Any) -> Recipe:
    values = {"system": "oim", "iterations": 10, "lr": 0.1, "backbone": "small"}
    values |= {"backbone_width": 8, "embedding_dim": 8, "queue_size": 4, "data": "some/folder"}
    return make_recipe(values | changes)


def built(recipe: Recipe, seed: int = 0) -> PersonSearchModel:
    torch.manual_seed(seed)
    return recipe.build(NUM_IDS)


def state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_tensors(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name
        assert value.dtype == b[name].dtype, name


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint with its training state."""
    recipe = small_recipe()
    model = built(recipe)
    progress = Progress("scenes", 7, 0.5, {"0.momentum_buffer": torch.ones(3)})
    save_checkpoint(tmp_path / "saved", model, recipe, NUM_IDS, METRICS, progress)
    return tmp_path / "saved"


def test_weights_memories_and_positions_come_back(tmp_path: Path) -> None:
    recipe = small_recipe()
    model = built(recipe).to(memory_format=torch.channels_last)
    oim: Any = model.oim
    oim.lookup.values.normal_()
    oim.queue.values.normal_()
    oim.queue.position.fill_(3)
    save_checkpoint(tmp_path / "c", model, recipe, NUM_IDS, METRICS)
    loaded, its_recipe = load_checkpoint(tmp_path / "c")
    assert_same_tensors(state_of(loaded), state_of(model))
    assert "oim.queue.position" in state_of(loaded)
    assert its_recipe == recipe
    assert not loaded.training


def test_a_checkpoint_is_a_folder_of_tensors_and_text(saved: Path) -> None:
    assert {file.name for file in saved.iterdir()} == {
        "model.safetensors",
        "recipe.toml",
        "metrics.json",
        "README.md",
        "training.safetensors",
        "training.json",
    }
    assert json.loads((saved / "metrics.json").read_text()) == METRICS
    assert list(saved.parent.iterdir()) == [saved]


def test_nothing_is_pickled(saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("a pickle was read or written")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch, "save", refuse)
    model, recipe = load_checkpoint(saved)
    progress = load_progress(saved)
    save_checkpoint(tmp_path / "again", model, recipe, NUM_IDS, METRICS, progress)
    # A pickle begins with 0x80 and is a zip in its newer form.
    for file in saved.iterdir():
        assert not file.read_bytes().startswith((b"\x80", b"PK"))


def test_the_model_card_says_what_was_measured_on_what(saved: Path) -> None:
    card = (saved / "README.md").read_text()
    assert card.startswith("# oim, small\n")
    assert "trained on: some/folder, 3 identities" in card
    assert "- validation, mean_ap: 0.5\n" in card
    assert "- iteration: 7\n" in card
    assert "A match is a similarity, not an identity." in card
    numbers = sum(v.numel() for v in load_file(saved / "model.safetensors").values())
    assert f"{numbers:,} numbers" in card


def test_the_first_weights_of_the_backbone_are_not_looked_for(tmp_path: Path) -> None:
    recipe = small_recipe()
    elsewhere = recipe.model_copy(update={"weights": "gone/backbone.safetensors"})
    save_checkpoint(tmp_path / "c", built(recipe), elsewhere, NUM_IDS, METRICS)
    _, its_recipe = load_checkpoint(tmp_path / "c")
    assert its_recipe.weights == "gone/backbone.safetensors"


def test_the_progress_comes_back(saved: Path) -> None:
    progress = load_progress(saved)
    assert (progress.stage, progress.iteration, progress.best) == ("scenes", 7, 0.5)
    assert_same_tensors(dict(progress.optimizer), {"0.momentum_buffer": torch.ones(3)})


def test_a_newer_checkpoint_replaces_the_older_one_whole(saved: Path) -> None:
    recipe = small_recipe()
    newer = built(recipe, seed=1)
    save_checkpoint(saved, newer, recipe, NUM_IDS, {"iteration": 8})
    loaded, _ = load_checkpoint(saved)
    assert_same_tensors(state_of(loaded), state_of(newer))
    assert not (saved / "training.json").exists()
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("part", ["model.safetensors", "recipe.toml"])
def test_a_missing_part_is_named(saved: Path, part: str) -> None:
    (saved / part).unlink()
    with pytest.raises(CheckpointError, match=f"{part} missing"):
        load_checkpoint(saved)


@pytest.mark.parametrize("part", ["training.safetensors", "training.json"])
def test_a_missing_training_state_is_named(saved: Path, part: str) -> None:
    (saved / part).unlink()
    with pytest.raises(CheckpointError, match=part.replace(".", r"\.")):
        load_progress(saved)
    load_checkpoint(saved)


@pytest.mark.parametrize("part", ["metrics.json", "README.md"])
def test_what_is_for_readers_only_may_be_missing(saved: Path, part: str) -> None:
    (saved / part).unlink()
    load_checkpoint(saved)


@pytest.mark.parametrize("text", ["", "3", "[]", "{}", '{"stage": "scenes"}', "{"])
def test_a_damaged_training_state_is_an_error(saved: Path, text: str) -> None:
    (saved / "training.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot resume from"):
        load_progress(saved)


@pytest.mark.parametrize("kept", [0, 4, 100, -1, -1000])
def test_a_truncated_model_is_an_error(saved: Path, kept: int) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(saved)


def test_a_truncated_training_state_is_an_error(saved: Path) -> None:
    file = saved / "training.safetensors"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="cannot resume from"):
        load_progress(saved)


@pytest.mark.parametrize("text", ["lr = \n", 'system = "oim"\n', 'system = "other"\n'])
def test_a_damaged_recipe_is_an_error_of_the_checkpoint(saved: Path, text: str) -> None:
    (saved / "recipe.toml").write_text(text)
    with pytest.raises(CheckpointError, match=r"recipe\.toml"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"format": FORMAT, "system": "oim"},
        {"format": FORMAT, "system": "oim", "num_ids": "many"},
        {"format": FORMAT, "system": "oim", "num_ids": "²"},
        {"format": FORMAT, "system": "oim", "num_ids": "-3"},
    ],
)
def test_a_foreign_tensor_file_is_an_error(saved: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weight": torch.ones(2)}, saved / "model.safetensors", metadata)
    with pytest.raises(CheckpointError, match="was not written by personsearch"):
        load_checkpoint(saved)


def test_tensors_of_another_system_are_an_error(saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    metadata = {"format": FORMAT, "system": "trident", "num_ids": "3"}
    save_file(state, saved / "model.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"'trident', recipe.toml of 'oim'"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("changes", "said"), [({"embedding_dim": 9}, "embedder"), ({"backbone_width": 4}, "stem")]
)
def test_tensors_that_do_not_fit_the_recipe_are_an_error(
    saved: Path, changes: dict[str, int], said: str
) -> None:
    (saved / "recipe.toml").write_text(small_recipe(**changes).to_toml())
    with pytest.raises(CheckpointError, match=f"does not fit recipe.toml: .*{said}") as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["less", "more"])
def test_too_few_or_too_many_tensors_are_an_error(saved: Path, change: str) -> None:
    state = load_file(saved / "model.safetensors")
    if change == "less":
        del state["oim.queue.position"]
    else:
        state["another"] = torch.ones(1)
    save_file(state, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not fit"):
        restore(built(small_recipe()), saved)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        find_checkpoint(tmp_path / "gone")


def test_an_empty_folder_is_an_error_that_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors and recipe\.toml missing"):
        find_checkpoint(tmp_path)


def test_a_run_is_found_by_its_best_checkpoint_then_by_its_last(saved: Path) -> None:
    run = saved.parent / "run"
    for name in ("last.old", "last", "best.old", "best"):
        shutil.copytree(saved, run / name)
        assert find_checkpoint(run) == run / name
    assert find_checkpoint(run / "last") == run / "last"


def test_a_run_whose_best_checkpoint_lacks_a_part_is_an_error(saved: Path) -> None:
    run = saved.parent / "run"
    shutil.copytree(saved, run / "best")
    (run / "best" / "recipe.toml").unlink()
    with pytest.raises(CheckpointError, match=r"best: recipe\.toml missing"):
        load_checkpoint(run)


def full_disk(*arguments: Any, **named: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("at", ["first", "second", "text", "sync"])
def test_a_full_disk_keeps_the_last_good_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    calls = []

    def second_is_full(*arguments: Any, **named: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            full_disk()
        save_file(*arguments, **named)

    if at == "text":
        monkeypatch.setattr(Path, "write_text", full_disk)
    elif at == "sync":
        monkeypatch.setattr(os, "fsync", full_disk)
    else:
        monkeypatch.setattr(checkpoint, "save_file", full_disk if at == "first" else second_is_full)
    recipe = small_recipe()
    progress = Progress("scenes", 8, 0.5, {"0.x": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"No space left on device.*last good"):
        save_checkpoint(saved, built(recipe, 1), recipe, NUM_IDS, METRICS, progress)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("move", [1, 2])
def test_a_move_that_fails_keeps_the_last_good_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch, move: int
) -> None:
    before = (saved / "model.safetensors").read_bytes()
    moved: list[Path] = []
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        moved.append(path)
        if len(moved) == move:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    recipe = small_recipe()
    with pytest.raises(CheckpointError, match="Input/output error"):
        save_checkpoint(saved, built(recipe, 1), recipe, NUM_IDS, METRICS)
    assert (saved / "model.safetensors").read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_kill_between_the_two_moves_is_recovered(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name.endswith(".new"):
            raise Killed
        return rename(path, target)

    before = (saved / "model.safetensors").read_bytes()
    recipe = small_recipe()
    with monkeypatch.context() as patch, pytest.raises(Killed):  # noqa: PT012
        patch.setattr(Path, "rename", killed)
        save_checkpoint(saved, built(recipe, 1), recipe, NUM_IDS, METRICS)
    assert not saved.exists()
    recover_checkpoint(saved)
    assert (saved / "model.safetensors").read_bytes() == before
    # What the kill left behind does not get in the way of the next one.
    save_checkpoint(saved, built(recipe, 2), recipe, NUM_IDS, METRICS)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_save_after_a_kill_never_drops_the_only_good_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = saved.with_name("saved.old")
    saved.rename(old)
    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    recipe = small_recipe()
    with pytest.raises(CheckpointError):
        save_checkpoint(saved, built(recipe, 1), recipe, NUM_IDS, METRICS)
    load_checkpoint(saved)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    recipe = small_recipe()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "c", built(recipe), recipe, NUM_IDS, METRICS)


def optimizers(parameters: list[torch.nn.Parameter]) -> dict[str, torch.optim.Optimizer]:
    return {
        "sgd": torch.optim.SGD(parameters, 0.1, 0.9),
        "plain": torch.optim.SGD(parameters, 0.1),
        "adam": torch.optim.Adam(parameters, 0.1),
        "adamw": torch.optim.AdamW(parameters, 0.1),
    }


@pytest.mark.parametrize("kind", ["sgd", "plain", "adam", "adamw"])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(kind: str, tmp_path: Path) -> None:
    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.Conv2d(5, 2, 3))
        return layers.to(memory_format=torch.channels_last)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    steady = network()
    optimizer = optimizers(list(steady.parameters()))[kind]
    for number in range(3):
        step(steady, optimizer, number)
    stopped = network()
    stopped.load_state_dict(state_of(steady))
    save_file(optimizer_tensors(optimizer), tmp_path / "state.safetensors")
    fresh = optimizers(list(stopped.parameters()))[kind]
    restore_optimizer(fresh, load_file(tmp_path / "state.safetensors"))
    for number in range(3, 6):
        step(steady, optimizer, number)
        step(stopped, fresh, number)
    assert_same_tensors(state_of(stopped), state_of(steady))
    for parameter, state in fresh.state.items():
        for value in state.values():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                assert value.stride() == parameter.stride()


def test_matching_tensors_start_a_wider_model(tmp_path: Path) -> None:
    source = built(small_recipe())
    save_checkpoint(tmp_path / "c", source, small_recipe(), NUM_IDS, METRICS)
    wider = built(small_recipe(embedding_dim=16), seed=1)
    before = state_of(wider)
    names = restore_matching(wider, tmp_path / "c")
    after, saved = state_of(wider), state_of(source)
    assert any(name.startswith("stem.") for name in names)
    assert "embedder.weight" not in names
    for name, value in after.items():
        assert torch.equal(value, saved[name] if name in names else before[name]), name
    whole = sum(p.numel() for p in wider.parameters())
    without = sum(p.numel() for p in wider.embedder.parameters())
    assert describe_start(wider, names) == f"{whole - without:,} of {whole:,} weights; not embedder"
    everything = [name for name, _ in wider.named_parameters()]
    assert describe_start(wider, everything) == f"{whole:,} of {whole:,} weights"


def test_a_checkpoint_without_a_fitting_tensor_starts_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", built(small_recipe()), small_recipe(), NUM_IDS, METRICS)

    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 3)

    with pytest.raises(CheckpointError, match=r"none of its .* tensors has a name and shape"):
        restore_matching(Other(), tmp_path / "c")  # type: ignore[arg-type]
