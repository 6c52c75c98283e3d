"""A user's own embedding network, on crops of pictures."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from personsearch.errors import DataError, ModelError
from personsearch.external.description import EmbedderDescription
from personsearch.external.input_transform import InputTransform, Picture
from personsearch.external.runtime import open_described
from personsearch.types import FloatArray


def cut(picture: Picture, box: FloatArray) -> Picture:
    """Return a box's pixels, clipped, its corners rounded to whole pixels, at least one a side.

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


def crops_of(pictures: list[Picture], boxes: list[FloatArray]) -> Iterator[Picture]:
    for picture, picture_boxes in zip(pictures, boxes, strict=True):
        for box in picture_boxes:
            yield cut(picture, box)


class ExternalEmbedder:
    """Embed crops with an ONNX or OpenVINO network; a relative `file` starts at `folder`.

    A `device` other than ``auto`` goes before that of the description.

    Raises:
        ModelError: file or runtime is missing, or the network does not fit the description.
    """

    def __init__(
        self, description: EmbedderDescription, folder: Path = Path(), device: str = "auto"
    ) -> None:
        self._network = open_described(description, folder, device)
        self.device = self._network.device
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
        """Return embeddings (N, D) of all boxes of all pictures in order, of any length."""
        rows, batch = [np.zeros((0, self.dim), dtype=np.float32)], []
        for crop in crops_of(pictures, boxes):
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
