"""`load` takes whatever can find people, and says what it expected otherwise."""

from pathlib import Path
from typing import Any

import pytest
import torch

import personsearch
from personsearch.errors import CheckpointError, ModelError
from personsearch.loading import load
from personsearch.systems.inference import device_of
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


def test_a_checkpoint_runs_on_the_devices_of_torch(checkpoint: Path) -> None:
    for device in (None, "cpu", torch.device("cpu")):
        assert device_of(load(checkpoint, device)) == torch.device("cpu")
    here = "cuda" if torch.cuda.is_available() else "cpu"
    assert device_of(load(checkpoint, "auto")).type == here
    for device in ("tensorrt", "gpu"):
        with pytest.raises(ModelError, match=f"device '{device}' is one of onnxruntime or OpenV"):
            load(checkpoint, device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_an_error(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="no CUDA device here for 'cuda:1'"):
        load(checkpoint, "cuda:1")


@pytest.mark.parametrize(
    ("described", "given", "used"),
    [("cuda", None, "cuda"), ("cuda", "auto", "cuda"), ("cuda", "cpu", "cpu"), ("", "gpu", "gpu")],
)
def test_a_device_asked_for_goes_before_that_of_the_toml(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    described: str,
    given: str | None,
    used: str,
) -> None:
    line = f"device = '{described}'\n" if described else ""
    (tmp_path / "pair.toml").write_text(
        f"[detector]\n{line}file = 'd.onnx'\nlayout = 'ssd'\n[embedder]\nfile = 'e.onnx'\n"
    )
    asked: list[str] = []

    def open_network(*_: object, device: str) -> None:
        asked.append(device)
        raise ModelError("no network here")

    monkeypatch.setattr("personsearch.external.runtime.open_network", open_network)
    with pytest.raises(ModelError, match="no network here"):
        load(tmp_path / "pair.toml", given)
    assert asked == [used]
