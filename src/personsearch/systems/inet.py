"""I-Net: an integrated net for detection and re-identification (Zhang et al. 2019, section 3).

pictures that share identities -> stem -> shared map -> proposals -> RoI pooling -> fc6, fc7, which
all tasks read: person or not, box, and a unit embedding trained by OLP and HEP.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import fully_connected, grid
from personsearch.systems.pairing import PairingLosses, PairingMixin, PairingSettings
from personsearch.systems.regions import DetectionStep, RegionSettings, SharedHeadSystem

PAPER_LOSSES = PairingSettings(pairing_loss="olp", identity_loss="hep")
"""Eq. 6."""

PAPER_REGIONS = RegionSettings(anchor_sizes=(128, 256, 512), roi_size=(7, 7))
"""Nine anchors a cell (section 3.1), and the size of VGG16's RoI pooling."""


class INet(PairingMixin, SharedHeadSystem):
    """Faster R-CNN whose two fully connected layers also give each region an embedding.

    Pictures come in groups that share identities (`training.pairs.PairSampler`); both streams of
    the Siamese network are one network, the batch holds the pictures of all streams.
    """

    def __init__(
        self,
        backbone: Backbone,  # the cut network; VGG16 in the paper
        num_ids: int,  # labelled identities in the training set
        *,
        embedding_dim: int = 256,  # length of an embedding
        hidden: int = 4096,  # width of fc6 and fc7, which follow the backbone's head; 0 has none
        embedding_grid: Sequence[int] = (7, 7),  # rows and columns of the average before fc6
        roi_pooling: Literal["max", "align"] = "max",  # RoI pooling as in the paper, or RoIAlign
        reid_min_iou: float = 0.5,  # least IoU with a person's box of the regions in the losses
        embed_boxes: bool = False,  # embed the final boxes instead of their proposals
        confidence_weighted: bool = False,  # multiply similarity by the gallery detection's score
        pairing: PairingSettings = PAPER_LOSSES,  # the re-identification losses
        regions: RegionSettings = PAPER_REGIONS,  # pictures, proposals, regions and detections
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.confidence_weighted = confidence_weighted
        self.roi_pooling, self.embed_boxes = roi_pooling, embed_boxes
        self.reid_min_iou = reid_min_iou
        self.embedding_grid = grid("embedding_grid", embedding_grid)
        self.fc6_7, width = fully_connected(
            backbone.head_channels * math.prod(self.embedding_grid), hidden
        )
        self.box_predictor = self.build_box_predictor(backbone, width)
        self.embedder = nn.Linear(width, embedding_dim)
        self.reid = PairingLosses(num_ids, embedding_dim, pairing)

    def run_head(self, pooled: Tensor) -> Tensor:
        """Return the output of fc7 as (R, W, 1, 1)."""
        averaged = functional.adaptive_avg_pool2d(self.head(pooled), self.embedding_grid)
        fc7: Tensor = self.fc6_7(averaged.flatten(1))
        return fc7[..., None, None]

    def embedding(self, output: Tensor) -> Tensor:
        """Return unit embeddings (R, D) of the output of fc7."""
        return functional.normalize(self.embedder(output.flatten(1)).float(), dim=1)

    def identity_losses(self, step: DetectionStep[Tensor]) -> dict[str, Tensor]:
        """Return the losses of eq. 6, named by their kind, such as ``olp`` and ``hep``."""
        embeddings, person = self.embed_people(step, self.reid_min_iou)
        pictures = picture_of_each(step.regions.boxes)
        losses: dict[str, Tensor] = self.reid(
            embeddings, step.regions.ids[person], pictures[person]
        )
        return losses


def picture_of_each(boxes: Sequence[Tensor]) -> Tensor:
    """Return the index (R,) in the batch of the picture of each of `boxes` (R_i, 4)."""
    counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    return torch.arange(len(boxes), device=counts.device).repeat_interleave(counts)
