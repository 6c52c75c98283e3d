"""The interface that every system keeps."""

import importlib

import pytest
import torch
from torch import Tensor

from personsearch.detectors.backbones import build_backbone
from personsearch.errors import DataError
from personsearch.systems.base import PersonSearchModel, Target, split_targets
from personsearch.types import Detections


def test_a_system_must_say_all_three_things() -> None:
    with pytest.raises(TypeError, match=r"detect.*embed.*forward"):
        PersonSearchModel()  # type: ignore[abstract]


def test_a_system_is_a_module_that_does_not_weight_by_default() -> None:
    class Blind(PersonSearchModel):
        embedding_dim = 2

        def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
            return {"nothing": torch.zeros(())}

        def detect(self, images: list[Tensor]) -> list[Detections]:
            return [Detections(torch.zeros(0, 4), torch.zeros(0)) for _ in images]

        def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
            return [torch.zeros(len(b), 2) for b in boxes]

    model = Blind()
    assert isinstance(model, torch.nn.Module)
    assert model.confidence_weighted is False
    assert list(model([], [])) == ["nothing"]
    assert len(model.detect([torch.zeros(3, 4, 4)])[0]) == 0


def test_a_target_checks_shapes_and_moves() -> None:
    target = Target(torch.tensor([[0, 0, 10, 20], [5, 5, 6, 7]]).float(), torch.tensor([0, -1]))
    moved = target.to("meta")
    assert moved.boxes.device.type == moved.ids.device.type == "meta"
    with pytest.raises(DataError, match=r"shape \(4,\), expected \(N, 4\)"):
        Target(torch.zeros(4), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(DataError, match=r"2 boxes but ids of shape \(1,\)"):
        Target(torch.zeros(2, 4), torch.zeros(1, dtype=torch.int64))


def test_backbones_are_still_found_at_their_former_place() -> None:
    with pytest.warns(DeprecationWarning, match="has moved to personsearch.detectors.backbones"):
        former = importlib.import_module("personsearch.systems.backbones")
    assert former.build_backbone is build_backbone


def test_split_targets() -> None:
    targets = [Target(torch.ones(2, 4).double(), torch.tensor([1, 2]))]
    boxes, ids = split_targets(targets)
    assert boxes[0].dtype == torch.float32
    assert ids[0].tolist() == [1, 2]
