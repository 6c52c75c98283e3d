"""DC-I-Net: divide and conquer integrated net (Zhang et al. 2019, section 4).

pictures that share identities -> stem -> shared map -> proposals -> pooled regions -> detection:
person or not, and a refined box -> RoIAlign on refined boxes -> layers of re-identification's own
-> a unit embedding trained by OLP and C2HEP.
"""

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import decode_boxes, fully_connected, grid
from personsearch.systems.inet import picture_of_each
from personsearch.systems.pairing import PairingLosses, PairingMixin, PairingSettings
from personsearch.systems.regions import (
    ALL,
    DetectionStep,
    FeatureMaps,
    RegionSettings,
    RegionSystem,
    Rows,
)
from personsearch.types import UNLABELLED

PAPER_LOSSES = PairingSettings(pairing_loss="olp", identity_loss="c2hep")
"""Eq. 10."""

PAPER_REGIONS = RegionSettings(
    anchor_sizes=(128, 256, 512), roi_size=(7, 7), detection_grid=(7, 7), detection_hidden=4096
)
"""Nine anchors a cell, and VGG16's RoI pooling, fc6 and fc7 for detection (section 3.1)."""


class DCINet(PairingMixin, RegionSystem[Tensor]):
    """Detection first; then the refined boxes are pooled again and embedded by other layers.

    Only the stem is shared. The backbone's head (conv5 of a ResNet, nothing of VGG16) is in the
    re-identifier; where detection has no layers of its own (``detection_hidden = 0``) it reads a
    copy of the head. Pictures, and arguments without a comment, are those of `INet`.
    """

    embed_boxes = True

    def __init__(
        self,
        backbone: Backbone,  # the cut network; VGG16 or ResNet-50 in the paper
        num_ids: int,
        *,
        embedding_dim: int = 256,
        reid_roi_size: Sequence[int] = (14, 7),  # rows, columns; the paper's 7 x 14 is w x h
        embedding_grid: Sequence[int] = (14, 7),  # rows and columns of the head's averaged output
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
        self.embedding_grid = grid("embedding_grid", embedding_grid)
        self.detection_head = nn.Identity() if self.detection_apart else deepcopy(backbone.head)
        self.box_predictor = self.build_box_predictor(backbone)
        self.layers, width = fully_connected(
            backbone.head_channels * math.prod(self.embedding_grid), hidden
        )
        self.embedder = nn.Linear(width, embedding_dim)
        self.reid = PairingLosses(num_ids, embedding_dim, pairing)

    def identity_losses(self, step: DetectionStep[Tensor]) -> dict[str, Tensor]:
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

    def roi_features(self, maps: FeatureMaps, boxes: list[Tensor]) -> Tensor:
        features: Tensor = self.detection_head(self.pool(maps, boxes))
        return features

    def predict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self.box_predictor(features)
        return logits, deltas

    def embed_regions(self, maps: FeatureMaps, boxes: list[Tensor]) -> Tensor:
        return self.embed_features(self.pool(maps, boxes, self.reid_roi_size))

    def embed_features(self, features: Tensor, rows: Rows = ALL) -> Tensor:
        pooled = features[rows]
        if not len(pooled):
            return pooled.new_zeros((0, self.embedding_dim))
        averaged = functional.adaptive_avg_pool2d(self.head(pooled), self.embedding_grid)
        embeddings = self.embedder(self.layers(averaged.flatten(1)))
        return functional.normalize(embeddings.float(), dim=1)
