"""Weights are read as tensors only, fetched by exact names, and errors say what to do."""

from pathlib import Path
from typing import Any
from urllib.error import URLError
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from torch import Tensor
from torchvision.models import WeightsEnum, resnet18

from personsearch.detectors.backbones import build_backbone
from personsearch.detectors.weights import published_weights, read_weights
from personsearch.errors import ModelError


def test_weights_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no\.pth: no such weights file; expected a \.pth .*s$"):
        build_backbone("resnet18", str(tmp_path / "no.pth"))
    text = tmp_path / "text.pth"
    text.write_text("not weights")
    with pytest.raises(
        ModelError, match=r"text\.pth: cannot be read \(\w+\), expected a whole file"
    ):
        build_backbone("resnet18", str(text))
    text.rename(tmp_path / "text.safetensors")
    with pytest.raises(ModelError, match=r"text\.safetensors: cannot be read \("):
        build_backbone("resnet18", str(tmp_path / "text.safetensors"))
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with pytest.raises(ModelError, match="no state dictionary of tensors"):
        build_backbone("resnet18", str(tmp_path / "epoch.pth"))
    torch.save({"layer9.weight": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"does not fit.*tensors are missing.*'layer9\.weight'"):
        build_backbone("resnet18", str(tmp_path / "other.pth"))
    torch.save({"conv1.weight": torch.ones(2, 2)}, tmp_path / "shape.pth")
    with pytest.raises(ModelError, match=r"does not fit.*conv1\.weight"):
        build_backbone("resnet18", str(tmp_path / "shape.pth"))


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    torch.save({"x": Path("a")}, tmp_path / "code.pth")
    with pytest.raises(
        ModelError, match=r"holds Python objects \(pathlib.*nothing of it was executed"
    ):
        build_backbone("resnet18", str(tmp_path / "code.pth"))


@pytest.mark.parametrize(
    "error", [URLError("no network"), RuntimeError("invalid hash value"), TimeoutError("slow")]
)
def test_published_weights_without_a_network(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    with pytest.raises(ModelError, match=r"resnet18 cannot be fetched from https://.*'none'"):
        build_backbone("resnet18", "imagenet")
    with pytest.raises(ModelError, match="'small' has no published weights"):
        build_backbone("small", "imagenet")


def test_the_versions_of_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(weights: WeightsEnum, **_: object) -> dict[str, Tensor]:
        asked.append(weights.name)
        return resnet18().state_dict()

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fetch)
    for name in ("imagenet-v1", "imagenet"):
        build_backbone("resnet18", name)
    assert asked == ["IMAGENET1K_V1", "IMAGENET1K_V1"]
    published_weights("resnet50", "imagenet-v1")
    published_weights("resnet50", "imagenet-v2")
    published_weights("resnet50", "imagenet")
    assert asked[2:] == ["IMAGENET1K_V1", "IMAGENET1K_V2", "IMAGENET1K_V2"]
    with pytest.raises(ModelError, match="torchvision has no weights 'imagenet-v2' of vgg16"):
        published_weights("vgg16", "imagenet-v2")


def test_wrappings_and_prefixes_are_taken_off(tmp_path: Path) -> None:
    tensors = {"conv1.weight": torch.ones(1), "bn1.bias": torch.ones(2)}
    file = tmp_path / "x.pth"
    for prefix in ("", "module.", "module.module."):
        named = {prefix + k: v for k, v in tensors.items()}
        for wrapped in (named, {"state_dict": named}, {"model": {"state_dict": named}, "epoch": 1}):
            torch.save(wrapped, file)
            assert read_weights(file).keys() == tensors.keys()


def _packed(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(100_000)}, path)
    with ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_a_packed_file_is_not_unpacked(tmp_path: Path) -> None:
    _packed(tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"unpacks to 40\d,\d{3}, expected .* not compressed"):
        read_weights(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1, 1).expand(10**7, 10**6),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, 2, device="meta"),
    ],
    ids=["repeated", "sparse", "without numbers"],
)
def test_only_dense_tensors_are_read(tensor: Tensor, tmp_path: Path) -> None:
    torch.save({"conv1.weight": tensor}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"conv1\.weight of shape .* expected dense tensors"):
        read_weights(tmp_path / "x.pth")


def test_odd_dictionaries_are_refused(tmp_path: Path) -> None:
    itself: dict[str, Any] = {}
    itself["model"] = itself
    for odd in (itself, {5: torch.zeros(1)}, {"model": None}, [torch.zeros(1)]):
        torch.save(odd, tmp_path / "x.pth")
        with pytest.raises(ModelError, match="holds no state dictionary of tensors"):
            read_weights(tmp_path / "x.pth")
