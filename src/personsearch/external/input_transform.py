"""From a picture to a network's input, and back from boxes in that input."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.errors import ModelError
from personsearch.external.description import NetworkDescription
from personsearch.external.runtime import Network

Picture = NDArray[np.uint8]
"""RGB (H, W, 3), 8 bits a channel."""


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a network's input: input = picture x scale + offset, (x, y) each."""

    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_picture(self, boxes: NDArray[Any]) -> NDArray[np.float64]:
        """Map boxes (N, 4) from input pixels to picture pixels, not clipped."""
        moved = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) - np.array(self.offset * 2)
        back: NDArray[np.float64] = moved / np.array(self.scale * 2)
        return back


class InputTransform:
    """Prepare the input of one network as described: `width` x `height` pixels.

    A run takes `batch` pictures, exactly that many if `fixed_batch`.

    Raises:
        ModelError: the input is no picture, or of another size than described.
    """

    def __init__(self, network: Network, description: NetworkDescription) -> None:
        self._description = description
        self._dtype = np.dtype(network.dtype)
        shape = network.input.shape or (None, 3, None, None)
        self._channels_last = len(shape) == 4 and shape[1] != 3 and shape[3] == 3
        if len(shape) != 4 or (shape[1] not in (3, None) and not self._channels_last):
            raise ModelError(
                f"{network.file}: its input is {network.input}, expected a colour picture: "
                "batch x 3 x height x width, or batch x height x width x 3"
            )
        height, width = (shape[1], shape[2]) if self._channels_last else (shape[2], shape[3])
        given = description.size
        if given is None:
            if width is None or height is None:
                raise ModelError(
                    f"{network.file}: its input is {network.input}, open in size; "
                    "add size = { width = ..., height = ... }"
                )
            self.width, self.height = width, height
        else:
            self.width, self.height = given.width, given.height
            if width not in (None, self.width) or height not in (None, self.height):
                raise ModelError(
                    f"{network.file}: takes width {width or 'open'}, height {height or 'open'}, "
                    f"but size says width {self.width}, height {self.height}"
                )
        self.fixed_batch = shape[0] is not None
        self.batch = shape[0] or description.batch
        mean, std = np.array(description.mean), np.array(description.std)
        # One multiplication and one addition a pixel: p * scale / 255 / std - mean / std.
        self._gain = (description.scale / 255.0 / std).astype(np.float32)
        self._bias = (-mean / std).astype(np.float32)

    def resize(self, picture: Picture) -> tuple[Picture, Placement]:
        """Resize a picture to the input's size, still 8-bit RGB, and return its placement."""
        height, width = picture.shape[:2]
        if self._description.resize == "stretch":
            return (
                _resized(picture, self.width, self.height),
                Placement((self.width / width, self.height / height), (0.0, 0.0)),
            )
        ratio = min(self.width / width, self.height / height)
        inner_width = min(max(round(width * ratio), 1), self.width)
        inner_height = min(max(round(height * ratio), 1), self.height)
        left, top = 0, 0
        if self._description.placement == "center":
            left, top = (self.width - inner_width) // 2, (self.height - inner_height) // 2
        canvas = np.full((self.height, self.width, 3), self._description.pad_value, dtype=np.uint8)
        canvas[top : top + inner_height, left : left + inner_width] = _resized(
            picture, inner_width, inner_height
        )
        return canvas, Placement((inner_width / width, inner_height / height), (left, top))

    def to_input(self, pictures: list[Picture]) -> NDArray[Any]:
        """Return one input for up to `batch` resized pictures; a fixed batch is padded by zeros."""
        count = self.batch if self.fixed_batch else len(pictures)
        values: NDArray[Any] = np.zeros((count, self.height, self.width, 3), dtype=np.float32)
        for row, picture in zip(values, pictures, strict=False):
            ordered = picture[..., ::-1] if self._description.color == "bgr" else picture
            np.multiply(ordered, self._gain, out=row)
            row += self._bias
        if self._dtype.kind == "u":
            np.rint(values, out=values).clip(0, 255, out=values)
        if not self._channels_last:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype=self._dtype)


def _resized(picture: Picture, width: int, height: int) -> Picture:
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)
