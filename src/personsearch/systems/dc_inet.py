"""DC-I-Net: divide and conquer integrated net (Zhang et al. 2019, section 4).

pictures that share identities -> stem -> shared map -> proposals -> RoI pooling -> fc6, fc7 ->
person or not, and a refined box -> RoIAlign on refined boxes -> layers of re-identification's own
-> a unit embedding trained by OLP and C2HEP.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    Pooling,
    decode_boxes,
    fully_connected,
    grid,
)
from personsearch.systems.inet import PAPER_REGIONS, picture_of_each
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


class DCINet(RegionSystem):
    """Detection first; then the refined boxes are pooled again and embedded by other layers.

    Only the stem is shared. `head` is detection's, fc6 and fc7 of VGG16; `reid_head` is the
    re-identifier's copy of its convolutions, conv5 of a ResNet and nothing of VGG16. Pictures, and
    arguments without a comment, are those of `INet`.
    """

    embed_boxes = True
    py_faster_rcnn = True

    def __init__(
        self,
        backbone: Backbone,  # the cut network; VGG16 or ResNet-50 in the paper
        num_ids: int,
        *,
        embedding_dim: int = 256,
        roi_pooling: Pooling = "max",  # of proposals; refined boxes are aligned
        reid_roi_size: Sequence[int] = (14, 7),  # rows, columns; the paper's 7 x 14 is w x h
        hidden: int = 4096,  # width of the re-identifier's two fully connected layers; 0 has none
        reid_min_iou: float = 0.5,  # least IoU with a person's box of the refined boxes embedded
        # what the re-identification losses train: all layers, as published, or none of the stem
        reid_gradient: Literal["all", "head"] = "all",
        dropout: float = 0.5,  # rate after detection's fc6 and fc7 in training
        box_beta: float = 1.0,
        confidence_weighted: bool = False,
        pairing: PairingSettings = PAPER_LOSSES,
        regions: RegionSettings = PAPER_REGIONS,
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.confidence_weighted, self.roi_pooling = confidence_weighted, roi_pooling
        self.reid_min_iou, self.reid_gradient = reid_min_iou, reid_gradient
        self.dropout, self.box_beta = dropout, box_beta
        self.reid_roi_size = grid("reid_roi_size", reid_roi_size)
        self.head, self.detection_head = backbone.copy_detection_head(), None
        self.box_predictor = BoxPredictor(backbone.detection_channels)
        self.reid_head, channels = backbone.head, backbone.head_channels
        if backbone.flat:
            self.reid_head, channels = nn.Sequential(), backbone.stem_channels
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
        near, maps = [r for r, _ in people], step.maps
        if self.reid_gradient == "head":
            maps = replace(maps, features=maps.features.detach())
        embeddings = self.embed_regions(maps, near)
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
        regions = self.regions(boxes, self.reid_roi_size, "align")
        return self.embed_features(RegionFeatures(maps.features, regions, self.reid_head))

    def embed_features(self, features: RegionFeatures) -> Tensor:
        """Return unit embeddings (R, D) of regions whose head is the re-identifier's."""
        if not len(features):
            return self.embedder.weight.new_zeros((0, self.embedding_dim))
        embeddings = self.embedder(self.layers(self.average(features)))
        return functional.normalize(embeddings.float(), dim=1)
