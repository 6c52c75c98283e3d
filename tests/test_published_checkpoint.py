"""Published weights become checkpoints that every command takes; other files are refused."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from published import published_code
from torch import Tensor
from typer.testing import CliRunner

import personsearch
from personsearch.cli.main import app
from personsearch.errors import CheckpointError, ModelError, RecipeError
from personsearch.published_checkpoint import convert_weights, our_tensors
from personsearch.training.checkpoint import load_checkpoint, load_tensors

RUN = CliRunner()


@pytest.fixture(scope="module", params=["seqnet", "nae"])
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def weights(system: str) -> dict[str, Tensor]:
    return published_code.published_weights(system, published_code.our_model(system))


@pytest.fixture(scope="module")
def file(system: str, weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the published trainers write it, from a program on several GPUs."""
    path = tmp_path_factory.mktemp("published") / "epoch_19.pth"
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    torch.save(
        {
            "model": {f"module.{name}": tensor for name, tensor in weights.items()},
            "lr_scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [16]).state_dict(),
            "epoch": 19,
        },
        path,
    )
    return path


@pytest.fixture(scope="module")
def folder(system: str, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / system
    arguments = ["convert-weights", str(file), "--system", system, "--out", str(out), "--json"]
    done = RUN.invoke(app, [*arguments, "--recipe", f"prw/{system}"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report["left_out"] == {}
    assert report["recipe"] == f"prw/{system}"
    assert report["matched"]["roi_heads.reid_loss.lut"] == "oim.lookup.values"
    return out


def test_the_folder_holds_a_model_that_loads(
    system: str, weights: dict[str, Tensor], file: Path, folder: Path
) -> None:
    model = personsearch.load(folder)
    assert type(model).__name__.lower() == system
    state = model.state_dict()
    assert torch.equal(
        state["stem.layer3.5.conv3.weight"], weights["backbone.layer3.5.conv3.weight"]
    )
    theirs = weights["roi_heads.box_predictor.bbox_pred.0.weight"]
    (own,) = (v for v in state.values() if v.shape == (4, 2048) and torch.equal(v, theirs[4:]))
    assert own.shape == (4, 2048)
    # The rows from the middle on were never written.
    assert int(state["oim.queue.position"]) == published_code.QUEUE // 2
    _, recipe = load_checkpoint(folder)
    assert recipe.settings["queue_size"] == published_code.QUEUE
    source = json.loads((folder / "metrics.json").read_text())["converted from"]
    assert source["file"] == file.name
    assert len(source["sha256"]) == 64


def test_every_tensor_matches_and_none_is_made_up(
    system: str, weights: dict[str, Tensor], folder: Path
) -> None:
    state, matched, left_out = our_tensors(weights, system)  # type: ignore[arg-type]
    assert left_out == {}
    assert set(matched) == set(weights)
    assert state.keys() == load_tensors(folder).keys()


def test_a_file_of_an_older_torchvision(system: str, weights: dict[str, Tensor]) -> None:
    conv = "rpn.head.conv.0.0."
    older = {k.replace(conv, "rpn.head.conv."): v for k, v in weights.items()}
    extra = {"roi_heads.box_predictor.cls_score.bias": torch.zeros(2)}
    state, _, left_out = our_tensors(older | extra, system)  # type: ignore[arg-type]
    assert "proposals.head.conv.0.0.weight" in state
    assert list(left_out) == list(extra)
    assert "does not read" in next(iter(left_out.values()))


def test_the_recipe_follows_from_the_number_of_identities(
    system: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    lookup = {"roi_heads.reid_loss.lut": torch.zeros(482, 256)}
    torch.save(weights | lookup, tmp_path / "prw.pth")
    done = convert_weights(tmp_path / "prw.pth", system, tmp_path / "out")  # type: ignore[arg-type]
    assert done.recipe == f"prw/{system}"
    torch.save(weights, tmp_path / "own.pth")
    with pytest.raises(ModelError, match=r"6 identities, expected 5,532 .* --recipe"):
        convert_weights(tmp_path / "own.pth", system, tmp_path / "other")  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists()
    with pytest.raises(CheckpointError, match=r"out: exists already; choose another folder"):
        convert_weights(tmp_path / "prw.pth", system, tmp_path / "out")  # type: ignore[arg-type]


def test_a_recipe_that_does_not_fit(system: str, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match="no shipped recipe of that name"):
        convert_weights(file, system, out, "nowhere")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=rf"is of oim, expected one of {system}"):
        convert_weights(file, system, out, "prw/oim")  # type: ignore[arg-type]
    recipe = f"synthetic-small/{system}"
    with pytest.raises(ModelError, match=rf"does not fit recipe {recipe}: .* and \d+ more; name a"):
        convert_weights(file, system, out, recipe)  # type: ignore[arg-type]
    assert not out.exists()


def test_the_other_system_is_named(system: str, weights: dict[str, Tensor]) -> None:
    other = {"seqnet": "nae", "nae": "seqnet"}[system]
    with pytest.raises(ModelError, match=rf"expected those of {other}, .* --system {system}"):
        our_tensors(weights, other)  # type: ignore[arg-type]


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def test_files_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    torch.save({"model": Harmful()}, "code.pth")
    torch.save(network, "object.pth")
    torch.save([torch.zeros(1)], "list.pth")
    torch.save(network.state_dict(), "other.pth")
    torch.save({"epoch": 3}, "empty.pth")
    torch.save({"backbone.conv1.weight": torch.zeros(1)}, "half.pth")
    whole = Path("other.pth").read_bytes()
    Path("cut.pth").write_bytes(whole[: len(whole) // 2])
    torch.save(network.state_dict(), "old.pth", _use_new_zipfile_serialization=False)
    old = Path("old.pth").read_bytes()
    Path("cut-old.pth").write_bytes(old[: len(old) - 8])
    Path("text.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    with zipfile.ZipFile("zip.pth", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    cases = {
        "none.pth": r"no such weights file",
        "code.pth": r"holds Python objects \(.*mkdir\), expected .* nothing of it was executed",
        "object.pth": r"holds Python objects \(.*Sequential\), .* model.state_dict\(\) instead",
        "list.pth": r"holds no state dictionary of tensors",
        "other.pth": r"has 2 tensors, such as 0.weight, 0.bias, expected those of seqnet",
        "empty.pth": r"holds no state dictionary of tensors; save model.state_dict\(\)",
        "half.pth": r"has 1 tensors, such as backbone.conv1.weight, expected those of seqnet",
        "cut.pth": r"cannot be read \(.*\), expected a whole file .*; download or copy it again",
        "cut-old.pth": r"cannot be read \(.*\), expected a whole file",
        "text.pth": r"cannot be read \(.*\), expected a whole file",
        "zip.pth": r"cannot be read \(.*\), expected a whole file",
    }
    for name, message in cases.items():
        with pytest.raises(ModelError, match=message) as error:
            convert_weights(Path(name), "seqnet", Path("out"))
        assert str(error.value).startswith(name)
        assert "\n" not in str(error.value)
    assert not Path("executed").exists()
    assert not Path("out").exists()


@pytest.mark.parametrize("shape", [(), (8,), (0, 256)])
@pytest.mark.parametrize("name", ["roi_heads.reid_loss.lut", "roi_heads.reid_loss.cq"])
def test_memories_are_rows_of_embeddings(
    name: str, shape: tuple[int, ...], system: Any, weights: dict[str, Tensor]
) -> None:
    with pytest.raises(ModelError, match=rf"{name} is .*expected rows of embeddings"):
        our_tensors({**weights, name: torch.zeros(shape)}, system)


def test_numbers_that_no_network_has(
    system: Any, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    name, file, out = "backbone.bn1.bias", tmp_path / "x.pth", tmp_path / "x"
    for bad, message in (
        (weights[name] * torch.nan, "has numbers that are not finite"),
        (weights[name].long(), r"has torch\.int64 numbers, expected torch\.float32"),
    ):
        torch.save({**weights, name: bad}, file)
        with pytest.raises(ModelError, match=rf"stem\.bn1\.bias {message}"):
            convert_weights(file, system, out, f"prw/{system}")
        assert not out.exists()
