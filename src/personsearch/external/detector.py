"""A user's own detection network, as a detector of whole pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from personsearch import boxes as box_arithmetic
from personsearch.external.decoding import Decoder
from personsearch.external.description import DetectorDescription
from personsearch.external.input_transform import InputTransform, Picture, Placement
from personsearch.external.runtime import open_described
from personsearch.types import FloatArray

YOLO_NMS = 0.7
"""IoU of suppression for a raw ``yolo`` output, if the description names none."""


class ExternalDetector:
    """Find people with an ONNX or OpenVINO network; a relative `file` starts at `folder`.

    A `device` other than ``auto`` goes before that of the description.

    Raises:
        ModelError: file or runtime is missing, or the network does not fit the description.
    """

    def __init__(
        self, description: DetectorDescription, folder: Path = Path(), device: str = "auto"
    ) -> None:
        self._network = open_described(description, folder, device)
        self.device = self._network.device
        self._transform = InputTransform(self._network, description)
        size = (self._transform.width, self._transform.height)
        self._decode = Decoder(self._network, description, size)
        self._nms = description.nms or (YOLO_NMS if description.layout == "yolo" else None)
        self.class_name = description.class_name

    def __call__(self, pictures: list[Picture]) -> list[tuple[FloatArray, FloatArray]]:
        """Return boxes (N, 4) clipped to the picture, none empty, and scores (N,), best first.

        Raises:
            ModelError: the network cannot run on them, or its outputs do not fit the layout.
        """
        found = []
        for start in range(0, len(pictures), self._transform.batch):
            found += self._run(pictures[start : start + self._transform.batch])
        return found

    def _run(self, pictures: list[Picture]) -> list[tuple[FloatArray, FloatArray]]:
        resized = [self._transform.resize(picture) for picture in pictures]
        outputs = self._network(self._transform.to_input([picture for picture, _ in resized]))
        return [
            self._in_picture(boxes, scores, placement, picture)
            for (boxes, scores), (_, placement), picture in zip(
                self._decode(outputs, len(pictures)), resized, pictures, strict=True
            )
        ]

    def _in_picture(
        self, boxes: NDArray[Any], scores: NDArray[Any], placement: Placement, picture: Picture
    ) -> tuple[FloatArray, FloatArray]:
        height, width = picture.shape[:2]
        boxes = box_arithmetic.clip(placement.to_picture(boxes), (width, height)).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        order = order[box_arithmetic.area(boxes[order]) > 0]
        boxes, scores = boxes[order], scores[order].astype(np.float32)
        if self._nms is not None:
            kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), self._nms).numpy()
            boxes, scores = boxes[kept], scores[kept]
        return boxes, scores
