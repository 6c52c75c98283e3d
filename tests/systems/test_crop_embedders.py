"""Embedders of boxes: a trained system, and any function of a crop."""

import numpy as np
import pytest
import torch
from torch import Tensor

from personsearch.errors import ModelError
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.systems.crop_embedders import ExtractorEmbedder, ModelEmbedder
from personsearch.types import Detections


def picture(width: int = 40, height: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


class CornerModel(PersonSearchModel):
    """Embeds a box as the colour of its first pixel."""

    embedding_dim = 3

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        return {}

    def detect(self, images: list[Tensor]) -> list[Detections]:
        return []

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        return [
            torch.stack([image[:, int(box[1]), int(box[0])] for box in part])
            if len(part)
            else torch.zeros(0, 3)
            for image, part in zip(images, boxes, strict=True)
        ]


def test_a_model_sees_whole_pictures() -> None:
    embedder = ModelEmbedder(CornerModel())
    pictures = [picture(seed=1), picture(seed=2), picture(seed=3)]
    rows = embedder(pictures, [boxes((3, 4, 9, 9), (0, 0, 2, 2)), boxes(), boxes((7, 8, 9, 9))])
    expected = np.stack([pictures[0][4, 3], pictures[0][0, 0], pictures[2][8, 7]]) / 255.0
    np.testing.assert_allclose(rows, expected, rtol=1e-6)
    assert embedder.dim == 3


def test_an_extractor_gets_each_crop() -> None:
    embedder = ExtractorEmbedder(lambda crop: np.array([*crop.shape, crop.sum()]))
    p = picture()
    rows = embedder([p, p], [boxes((0, 0, 4, 8)), boxes((1, 1, 40, 30))])
    np.testing.assert_allclose(rows, [[8, 4, 3, p[:8, :4].sum()], [29, 39, 3, p[1:, 1:].sum()]])
    assert embedder.dim == 4
    assert embedder([p], [boxes()]).shape == (0, 4)


def test_an_extractor_that_gives_no_vector_says_so() -> None:
    with pytest.raises(ModelError, match=r"gave shape \(128, 64, 3\), expected a vector"):
        ExtractorEmbedder(lambda crop: crop)
