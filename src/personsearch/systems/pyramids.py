"""Systems on the blocks of a trunk: what Sequential and RDLR have in common.

picture -> transform -> blocks C1 to C5 -> a detector on their maps -> embeddings of its boxes
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from personsearch.detectors.backbones import Trunk
from personsearch.detectors.faster_rcnn import PictureTransform, split_like
from personsearch.detectors.fpn import PyramidFasterRCNN
from personsearch.detectors.retinanet import RetinaNet
from personsearch.systems.base import PersonSearchModel, Target, split_targets
from personsearch.types import Detections


@dataclass(frozen=True)
class BlockMaps:
    """Pictures as given, as one scaled, normalised and padded batch, and each block's output."""

    images: list[Tensor]
    batch: ImageList
    maps: dict[str, Tensor]


class PyramidSystem(PersonSearchModel):
    """The base of systems with a detector on a feature pyramid over blocks C1 to C5."""

    detector: PyramidFasterRCNN | RetinaNet  # set by the subclass

    def __init__(self, trunk: Trunk, min_size: int, max_size: int, stretch: bool = False) -> None:
        super().__init__()
        self.transform = PictureTransform(min_size, max_size, stretch)
        self.trunk = trunk.blocks

    def extract_features(self, images: Sequence[Tensor], last: str = "C5") -> BlockMaps:
        """Scale and join pictures, and run the blocks up to `last`."""
        batch = self.transform.to_batch(images)
        maps, x = {}, batch.tensors
        for name, block in self.trunk.items():
            maps[name] = x = block(x)
            if name == last:
                break
        return BlockMaps(list(images), batch, maps)

    def detection_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the detector's losses, box regression included: all of the first stage."""
        maps = self.extract_features(images)
        boxes = self.transform.scale(split_targets(targets)[0], images, maps.batch)
        losses: dict[str, Tensor] = self.detector(maps.batch, maps.maps, boxes)[1]
        return losses

    def detection_parameters(self) -> list[nn.Parameter]:
        """Return what the first stage trains: trunk and detector."""
        parts = (self.trunk, self.detector)
        return [p for part in parts for p in part.parameters() if p.requires_grad]

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Return the people in each picture, in its own pixels, by descending score."""
        maps = self.extract_features(images)
        predictions, _ = self.detector(maps.batch, maps.maps)
        # Each detector reads its own predictions.
        postprocess: Any = self.detector.postprocess
        detected = postprocess(predictions, maps.batch.image_sizes)
        boxes = [one.boxes for one in detected]
        embeddings = split_like(self.embed_detected(maps, boxes), boxes)
        unscaled = self.transform.unscale(boxes, images, maps.batch)
        return [
            Detections(b, one.scores, e)
            for b, one, e in zip(unscaled, detected, embeddings, strict=True)
        ]

    @abstractmethod
    def embed_detected(self, maps: BlockMaps, boxes: list[Tensor]) -> Tensor:
        """Return unit embeddings (R, D) of `boxes` in pixels of the batch."""
