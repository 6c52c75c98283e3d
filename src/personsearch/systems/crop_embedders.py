"""What can say what a box of a picture looks like: a user's network, a model, an extractor."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from personsearch.errors import DataError, ModelError
from personsearch.external.description import EmbedderDescription
from personsearch.external.input_transform import InputTransform, Picture
from personsearch.external.runtime import open_network
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.inference import device_of, to_images
from personsearch.types import FloatArray


def cut(picture: Picture, box: FloatArray) -> Picture:
    """The pixels of a box, its corners rounded to whole pixels, at least one pixel a side.

    Args:
        picture: RGB (H, W, 3) uint8.
        box: (4,) in its pixels; what lies outside of the picture is left out.

    Raises:
        DataError: the whole box lies outside of the picture.
    """
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = (float(side) for side in box)
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise DataError(
            f"box {[x1, y1, x2, y2]} lies outside of its picture of {width} x {height} pixels"
        )
    left, right = _span(x1, x2, width)
    top, bottom = _span(y1, y2, height)
    return picture[top:bottom, left:right]


def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    start = min(max(round(low), 0), limit - 1)
    return start, max(min(round(high), limit), start + 1)


def _crops(pictures: list[Picture], boxes: list[FloatArray]) -> Iterator[Picture]:
    for picture, picture_boxes in zip(pictures, boxes, strict=True):
        for box in picture_boxes:
            yield cut(picture, box)


class ExternalEmbedder:
    """Embeds crops with an ONNX or OpenVINO network.

    Args:
        description: what the network takes.
        folder: where a relative `file` starts.

    Attributes:
        dim: length of an embedding.

    Raises:
        ModelError: the file or its runtime is missing, or the network does not fit the
            description.
    """

    def __init__(self, description: EmbedderDescription, folder: Path = Path()) -> None:
        self._network = open_network(Path(folder) / description.file, description.runtime)
        self._transform = InputTransform(self._network, description)
        names = [port.name for port in self._network.outputs]
        if description.output is None and len(names) != 1:
            raise ModelError(
                f"{self._network.file}: has several outputs "
                f"({self._network.describe_outputs()}); name the embedding with 'output'"
            )
        if description.output is not None and description.output not in names:
            raise ModelError(
                f"{self._network.file}: has no output {description.output!r}; it has "
                f"{self._network.describe_outputs()}"
            )
        self._output = description.output or names[0]
        blank = np.zeros((self._transform.height, self._transform.width, 3), dtype=np.uint8)
        self.dim = int(self._run([blank]).shape[1])

    def __call__(self, pictures: list[Picture], boxes: list[FloatArray]) -> FloatArray:
        """Embeddings (N, D), all boxes of all pictures in order, as the network gives them."""
        rows, batch = [np.zeros((0, self.dim), dtype=np.float32)], []
        for crop in _crops(pictures, boxes):
            # Resized at once: a batch of whole crops could be as large as its pictures.
            batch.append(self._transform.resize(crop)[0])
            if len(batch) == self._transform.batch:
                rows.append(self._run(batch))
                batch = []
        if batch:
            rows.append(self._run(batch))
        return np.concatenate(rows)

    def _run(self, crops: list[Picture]) -> FloatArray:
        values = np.asarray(self._network(self._transform.to_input(crops))[self._output])
        # Some networks keep two axes of length one from their last pooling.
        flat = values.ndim >= 2 and all(side == 1 for side in values.shape[2:])
        if not flat or len(values) < len(crops) or values.shape[1] < 2:
            raise ModelError(
                f"{self._network.file}: output {self._output!r} is {values.shape} for "
                f"{len(crops)} crops, expected one vector a crop; name another with 'output'"
            )
        return values.reshape(values.shape[:2])[: len(crops)].astype(np.float32)


class ModelEmbedder(nn.Module):
    """Embeds boxes with a trained person-search model, which sees the whole picture.

    Args:
        model: any system.

    Attributes:
        dim: length of an embedding.
    """

    def __init__(self, model: PersonSearchModel) -> None:
        super().__init__()
        self.model = model
        self.dim = model.embedding_dim

    def forward(self, pictures: list[Picture], boxes: list[FloatArray]) -> FloatArray:
        """Embeddings (N, D), all boxes of all pictures in order."""
        images = to_images(pictures, device_of(self.model))
        tensors = [torch.as_tensor(part, device=device_of(self.model)) for part in boxes]
        with torch.inference_mode():
            embedded = self.model.embed(images, tensors)
        rows: FloatArray = torch.cat(embedded).float().cpu().numpy()
        return rows


class ExtractorEmbedder:
    """Embeds crops with a function of one crop, such as a colour histogram.

    Args:
        extract: RGB crop (h, w, 3) uint8 of any size -> vector (D,).

    Attributes:
        dim: length of an embedding.

    Raises:
        ModelError: it does not give a vector.
    """

    def __init__(self, extract: Callable[[Picture], NDArray[Any]]) -> None:
        self._extract = extract
        self.dim = len(self._vector(np.zeros((128, 64, 3), dtype=np.uint8)))

    def __call__(self, pictures: list[Picture], boxes: list[FloatArray]) -> FloatArray:
        """Embeddings (N, D), all boxes of all pictures in order."""
        rows = [self._vector(np.ascontiguousarray(crop)) for crop in _crops(pictures, boxes)]
        return np.stack(rows) if rows else np.zeros((0, self.dim), dtype=np.float32)

    def _vector(self, crop: Picture) -> FloatArray:
        vector = np.asarray(self._extract(crop), dtype=np.float32)
        if vector.ndim != 1 or not len(vector):
            raise ModelError(f"the extractor gave shape {vector.shape}, expected a vector (D,)")
        return vector
