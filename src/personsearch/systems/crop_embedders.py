"""Embedders of boxes beside a user's own network: a trained system, or any function of a crop."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from personsearch.errors import ModelError
from personsearch.external.embedder import crops_of
from personsearch.external.input_transform import Picture
from personsearch.systems.base import PersonSearchModel, device_of
from personsearch.systems.inference import to_images
from personsearch.types import FloatArray


class ModelEmbedder(nn.Module):
    """Embed boxes with any system, which reads the whole picture."""

    def __init__(self, model: PersonSearchModel) -> None:
        super().__init__()
        self.model = model.for_inference()
        self.dim = model.embedding_dim

    def forward(self, pictures: list[Picture], boxes: list[FloatArray]) -> FloatArray:
        """Return embeddings (N, D) of all boxes of all pictures in order."""
        images = to_images(pictures, device_of(self.model))
        tensors = [torch.as_tensor(part, device=device_of(self.model)) for part in boxes]
        with torch.inference_mode(), self.model.autocast():
            embedded = self.model.embed(images, tensors)
        rows: FloatArray = torch.cat(embedded).float().cpu().numpy()
        return rows


class ExtractorEmbedder:
    """Embed crops by a function: RGB crop (h, w, 3) uint8 of any size -> vector (D,).

    Raises:
        ModelError: `extract` does not return a vector.
    """

    def __init__(self, extract: Callable[[Picture], NDArray[Any]]) -> None:
        self._extract = extract
        self.dim = len(self._vector(np.zeros((128, 64, 3), dtype=np.uint8)))

    def __call__(self, pictures: list[Picture], boxes: list[FloatArray]) -> FloatArray:
        """Return embeddings (N, D) of all boxes of all pictures in order."""
        rows = [self._vector(np.ascontiguousarray(crop)) for crop in crops_of(pictures, boxes)]
        return np.stack(rows) if rows else np.zeros((0, self.dim), dtype=np.float32)

    def _vector(self, crop: Picture) -> FloatArray:
        vector = np.asarray(self._extract(crop), dtype=np.float32)
        if vector.ndim != 1 or not len(vector):
            raise ModelError(f"the extractor gave shape {vector.shape}, expected a vector (D,)")
        return vector
