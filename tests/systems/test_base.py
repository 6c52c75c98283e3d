"""The interface that every system keeps."""

import pytest
import torch
from torch import Tensor

from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections, Target


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
