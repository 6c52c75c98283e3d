"""DC-I-Net: divide and conquer integrated net (Zhang et al. 2019, section 4).

pictures that share identities -> stem -> shared map -> proposals -> pooled regions -> detection:
person or not, and a refined box -> RoIAlign on refined boxes -> layers of re-identification's own
-> a unit embedding trained by OLP and C2HEP.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    decode_boxes,
    fully_connected,
    grid,
)
from personsearch.systems.inet import picture_of_each
from personsearch.systems.pairing import PairingLosses, PairingSettings
from personsearch.systems.regions import (
    DetectionStep,
    FeatureMaps,
    RegionFeatures,
    RegionSettings,
    RegionSystem,
)
from personsearch.types import UNLABELLED

PAPER_LOSSES = PairingSettings(pairing_loss="olp", identity_loss="c2hep")
"""Eq. 10."""

PAPER_REGIONS = RegionSettings(anchor_sizes=(128, 256, 512), roi_size=(7, 7))
"""Nine anchors a cell, and the size of VGG16's RoI pooling (section 3.1)."""


class DCINet(RegionSystem):
    """Detection first; then the refined boxes are pooled again and embedded by other layers.

    Only the stem is shared. Detection has a copy of the backbone's head, the re-identifier its
    convolutions: conv5 of a ResNet, nothing of VGG16. Pictures, and arguments without a comment,
    are those of `INet`.
    """

    embed_boxes = True

    def __init__(
        self,
        backbone: Backbone,  # the cut network; VGG16 or ResNet-50 in the paper
        num_ids: int,
        *,
        embedding_dim: int = 256,
        reid_roi_size: Sequence[int] = (14, 7),  # rows, columns; the paper's 7 x 14 is w x h
        hidden: int = 4096,  # width of the re-identifier's two fully connected layers; 0 has none
        reid_min_iou: float = 0.5,  # least IoU with a person's box of the refined boxes embedded
        confidence_weighted: bool = False,
        pairing: PairingSettings = PAPER_LOSSES,
        regions: RegionSettings = PAPER_REGIONS,
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.confidence_weighted = confidence_weighted
        self.reid_min_iou = reid_min_iou
        self.reid_roi_size = grid("reid_roi_size", reid_roi_size)
        self.detection_head = backbone.copy_detection_head()
        self.box_predictor = BoxPredictor(backbone.detection_channels)
        channels = backbone.head_channels
        if backbone.flat:
            self.head, channels = nn.Sequential(), backbone.stem_channels
        self.layers, width = fully_connected(channels * math.prod(self.cells), hidden)
        self.embedder = nn.Linear(width, embedding_dim)
        self.reid = PairingLosses(num_ids, embedding_dim, pairing)

    def identity_losses(self, step: DetectionStep) -> dict[str, Tensor]:
        """Return the losses of eq. 10 on refined boxes, named by their kind, such as ``c2hep``."""
        # No gradient goes through a box.
        sizes = step.maps.batch.image_sizes
        refined = decode_boxes(self.sampler.coder, step.deltas.detach(), step.regions.boxes, sizes)
        people = [
            self._people(r, b, i) for r, b, i in zip(refined, step.boxes, step.ids, strict=True)
        ]
        near = [r for r, _ in people]
        embeddings = self.embed_regions(step.maps, near)
        losses: dict[str, Tensor] = self.reid(
            embeddings, torch.cat([i for _, i in people]), picture_of_each(near)
        )
        return losses

    def _people(self, refined: Tensor, boxes: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the refined boxes of a picture that are near a person's box, and their ids."""
        if not len(boxes):
            return refined[:0], ids.new_full((0,), UNLABELLED)
        ious, owners = box_iou(refined, boxes).max(dim=1)
        near = ious >= self.reid_min_iou
        return refined[near], ids[owners[near]]

    def embed_regions(self, maps: FeatureMaps, boxes: list[Tensor]) -> Tensor:
        return self.embed_features(self.roi_features(maps, boxes, self.reid_roi_size))

    def embed_features(self, features: RegionFeatures) -> Tensor:
        if not len(features.pooled):
            return features.pooled.new_zeros((0, self.embedding_dim))
        averaged = functional.adaptive_avg_pool2d(features.deep, self.cells)
        embeddings = self.embedder(self.layers(averaged.flatten(1)))
        return functional.normalize(embeddings.float(), dim=1)
