"""`load` takes whatever can find people, and says what it expected otherwise."""

from pathlib import Path
from typing import Any

import pytest
import torch

import personsearch
from personsearch.errors import CheckpointError, ModelError
from personsearch.loading import load
from personsearch.training.checkpoint import save_checkpoint
from personsearch.training.recipe import make_recipe


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    values: dict[str, Any] = {"system": "oim", "iterations": 1, "lr": 0.1, "backbone": "small"}
    values |= {"backbone_width": 8, "embedding_dim": 8, "queue_size": 4, "min_size": 64}
    recipe = make_recipe(values | {"max_size": 96, "anchor_sizes": [16, 32]})
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "run" / "best", recipe.build(3), recipe, 3, {"mean_ap": 0.5})
    return tmp_path / "run" / "best"


def test_a_checkpoint_is_ready_to_detect_and_embed(checkpoint: Path) -> None:
    model = load(checkpoint)
    assert not model.training
    image = torch.rand(3, 64, 96)
    found = model.detect([image])[0]
    assert found.embeddings.shape == (len(found), 8)
    embedded = model.embed([image], [torch.tensor([[4.0, 4.0, 20.0, 50.0]])])[0]
    assert embedded.norm(dim=1).tolist() == pytest.approx([1.0], abs=1e-5)


def test_a_path_may_be_text_or_the_folder_of_a_run(checkpoint: Path) -> None:
    ours = load(checkpoint).state_dict()
    for path in (str(checkpoint), checkpoint.parent, str(checkpoint.parent)):
        theirs = load(path).state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_it_is_the_one_of_the_package() -> None:
    assert personsearch.load is load


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone: no such checkpoint folder"):
        load(tmp_path / "gone")


def test_a_part_that_is_missing_is_named(checkpoint: Path) -> None:
    (checkpoint / "recipe.toml").unlink()
    with pytest.raises(CheckpointError, match=r"recipe\.toml missing"):
        load(checkpoint)


def test_a_single_file_is_an_error_that_says_what_was_expected(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match=r"is a file, expected a checkpoint folder, an exp"):
        load(checkpoint / "model.safetensors")


def test_a_toml_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.toml"):
        load(tmp_path / "gone.toml")
