"""I-Net: an integrated net for detection and re-identification (Zhang et al. 2019, section 3).

pictures that share identities -> stem -> shared map -> proposals -> RoI pooling -> fc6, fc7, which
all tasks read: person or not, box, and a unit embedding trained by OLP and HEP.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import BoxPredictor, Pooling
from personsearch.systems.pairing import PairingLosses, PairingSettings
from personsearch.systems.regions import (
    DetectionStep,
    RegionFeatures,
    RegionSettings,
    RegionSystem,
)

PAPER_LOSSES = PairingSettings(pairing_loss="olp", identity_loss="hep")
"""Eq. 6."""

PAPER_REGIONS = RegionSettings(
    anchor_sizes=(128, 256, 512),
    rpn_post_nms_top_n_train=128,
    roi_size=(7, 7),
    sample_true_boxes=False,
    rois_per_image=128,
    roi_positive_fraction=0.25,
    score_threshold=0.05,
    nms_iou=0.3,
    max_detections=100,
)
"""Nine anchors a cell and the 128 proposals of a picture (section 3.1); else py-faster-rcnn's."""


class INet(RegionSystem):
    """Faster R-CNN whose two fully connected layers, VGG16's, also give each region an embedding.

    Pictures come in groups that share identities (`training.pairs.PairSampler`); both streams of
    the Siamese network are one network, the batch holds the pictures of all streams.
    """

    py_faster_rcnn = True

    def __init__(
        self,
        backbone: Backbone,  # the cut network; VGG16 in the paper
        num_ids: int,  # labelled identities in the training set
        *,
        embedding_dim: int = 256,  # length of an embedding
        roi_pooling: Pooling = "max",  # RoI pooling as in the paper, or RoIAlign
        reid_min_iou: float = 0.5,  # least IoU with a person's box of the regions in the losses
        dropout: float = 0.5,  # rate after fc6 and fc7 in training; py-faster-rcnn's
        box_beta: float = 1.0,  # where smooth L1 turns from square to linear; py-faster-rcnn's
        embed_boxes: bool = False,  # embed the final boxes instead of their proposals
        confidence_weighted: bool = False,  # multiply similarity by the gallery detection's score
        pairing: PairingSettings = PAPER_LOSSES,  # the re-identification losses
        regions: RegionSettings = PAPER_REGIONS,  # pictures, proposals, regions and detections
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.confidence_weighted = confidence_weighted
        self.roi_pooling, self.embed_boxes = roi_pooling, embed_boxes
        self.reid_min_iou, self.dropout, self.box_beta = reid_min_iou, dropout, box_beta
        self.box_predictor = BoxPredictor(backbone.detection_channels)
        self.embedder = nn.Linear(backbone.head_channels * math.prod(self.cells), embedding_dim)
        self.reid = PairingLosses(num_ids, embedding_dim, pairing)

    def embed_features(self, features: RegionFeatures) -> Tensor:
        """Return unit embeddings (R, D): a linear layer on fc7."""
        return functional.normalize(self.embedder(self.average(features)).float(), dim=1)

    def identity_losses(self, step: DetectionStep) -> dict[str, Tensor]:
        """Return the losses of eq. 6, named by their kind, such as ``olp`` and ``hep``."""
        embeddings, person = self.embed_people(step, self.reid_min_iou)
        pictures = picture_of_each(step.regions.boxes)[person]
        losses: dict[str, Tensor] = self.reid(embeddings, step.regions.ids[person], pictures)
        return losses


def picture_of_each(boxes: Sequence[Tensor]) -> Tensor:
    """Return the index (R,) in the batch of the picture of each of `boxes` (R_i, 4)."""
    counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    return torch.arange(len(boxes), device=counts.device).repeat_interleave(counts)
