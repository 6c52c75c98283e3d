"""End-to-end deep learning for person search (Xiao et al. 2016, section 4).

picture -> conv1-conv5 -> proposals -> RoI pooling -> fc6, fc7 -> box
                                                            fc7 -> fc8 -> one of C ids or background
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    Proposals,
    SampledRegions,
    split_like,
)
from personsearch.errors import ModelError
from personsearch.losses.rss import random_sampling_softmax
from personsearch.losses.softmax import softmax_loss
from personsearch.systems.base import Target
from personsearch.systems.regions import (
    DetectionStep,
    FeatureMaps,
    RegionFeatures,
    RegionSettings,
    RegionSystem,
)
from personsearch.types import BACKGROUND, UNLABELLED

PAPER_REGIONS = RegionSettings(anchor_sizes=(128, 256, 512), roi_size=(7, 7))
"""Nine anchors a cell (section 4.1), and the size of VGG16's last pooling."""


class Xiao2016(RegionSystem):
    """Faster R-CNN whose second step tells identities and background apart.

    The paper has four losses: two on proposals, one on boxes and the identity softmax, but no
    person classifier in the second step. So a region is ranked by its proposal's score ("for each
    confident candidate box"), and background is one more class of the identity softmax, which moves
    false alarms away from people (section 4.2). People without an identity have no class and are
    left out of the softmax.

    Raises:
        ModelError: settings that contradict each other, or weights that do not fit.
    """

    def __init__(
        self,
        backbone: Backbone,  # the cut network; VGG16 in the paper
        num_ids: int,  # C, labelled identities in the training set
        *,
        embedding_dim: int = 256,  # width of fc8
        roi_pooling: Literal["max", "align"] = "max",  # RoI pooling as in the paper, or RoIAlign
        identity_loss: Literal["rss", "softmax"] = "rss",  # eq. 2 or eq. 1, on whole pictures
        rss_sampled: int = 100,  # K of RSS
        identity_weight: float = 1.0,  # of the identity loss in the sum
        # at 0 the softmax reads scores `w_j . fc8 + b_j` as in the paper; above 0 it reads
        # cosines of w_j and fc8 times this.
        identity_scale: float = 0.0,
        reid_min_iou: float = 0.5,  # least IoU with a person's box of the regions in the losses
        # the score that detections are ranked by: the "proposal"'s probability, as in the
        # paper, one minus the softmax's probability of background ("identity"), or a
        # "classifier" of person and background beside the box regression
        detection_score: Literal["proposal", "identity", "classifier"] = "proposal",
        embed_boxes: bool = False,  # embed the final boxes instead of their proposals
        confidence_weighted: bool = False,  # multiply similarity by the gallery detection's score
        regions: RegionSettings = PAPER_REGIONS,  # pictures, proposals, regions and detections
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        if rss_sampled < 2:
            raise ModelError(
                f"rss_sampled is {rss_sampled}, expected at least 2: the label and the background"
            )
        self.num_ids, self.confidence_weighted = num_ids, confidence_weighted
        self.roi_pooling, self.embed_boxes = roi_pooling, embed_boxes
        self.identity_loss, self.rss_sampled = identity_loss, rss_sampled
        self.identity_weight, self.identity_scale = identity_weight, identity_scale
        self.reid_min_iou, self.detection_score = reid_min_iou, detection_score
        # Built twice, so that a seed gives the same first weights as in version 0.1.
        self.proposals = self.build_proposals(backbone)
        self.fc8 = nn.Linear(backbone.head_channels * math.prod(self.cells), embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_ids + 1, bias=identity_scale == 0)
        self.box_predictor = BoxPredictor(
            backbone.detection_channels, classify=detection_score == "classifier"
        )

    def _fc8(self, features: RegionFeatures) -> Tensor:
        """Return fc8 (R, D) of regions: a linear layer on fc7, the head's output."""
        fc7 = functional.adaptive_avg_pool2d(features.deep, self.cells).flatten(1)
        fc8: Tensor = self.fc8(fc7)
        return fc8

    def embed_features(self, features: RegionFeatures) -> Tensor:
        """Return unit embeddings (R, D) of regions.

        The paper compares fc8 by Euclidean distance; at unit length, its order is the cosine's.
        """
        return functional.normalize(self._fc8(features).float(), dim=1)

    def region_losses(
        self, logits: Tensor, deltas: Tensor, regions: SampledRegions
    ) -> dict[str, Tensor]:
        """Return the loss ``box``, and ``detection`` if a classifier scores.

        Regions are sampled without gradient: no loss reaches their coordinates (footnote 2).
        """
        losses = super().region_losses(logits, deltas, regions)
        if self.detection_score != "classifier":
            del losses["detection"]
        return losses

    def score(
        self, features: RegionFeatures, logits: Tensor, proposals: Proposals
    ) -> Sequence[Tensor]:
        """Return the scores that `detection_score` names."""
        if self.detection_score == "proposal":
            return proposals.scores
        if self.detection_score == "classifier":
            return super().score(features, logits, proposals)
        probabilities = self._logits(self._fc8(features)).float().softmax(dim=1)
        return split_like(1.0 - probabilities[:, -1], proposals.boxes)

    def identity_losses(self, step: DetectionStep) -> dict[str, Tensor]:
        """Return the loss ``identity`` of all sampled regions, background included."""
        return {
            "identity": self._identity_loss(self._fc8(step.features), self.classes(step.regions))
        }

    def classes(self, regions: SampledRegions) -> Tensor:
        """Return the class (R,) of each region in the softmax; negative where it has none.

        People without an identity have none, nor have regions too far from the person's box.
        """
        classes = torch.where(regions.foreground, regions.ids, self.num_ids)
        return classes.masked_fill(
            regions.foreground & (regions.ious < self.reid_min_iou), UNLABELLED
        )

    def _logits(self, fc8: Tensor) -> Tensor:
        """Return the scores x (R, C + 1) of the identities and of the background."""
        if not self.identity_scale:
            logits: Tensor = self.classifier(fc8)
            return logits
        with torch.autocast(fc8.device.type, enabled=False):
            directions = functional.normalize(self.classifier.weight, dim=1)
            return self.identity_scale * functional.normalize(fc8.float(), dim=1) @ directions.t()

    def _identity_loss(self, fc8: Tensor, classes: Tensor) -> Tensor:
        """Return eq. 2 or eq. 1 of fc8 (R, D) with `classes` (R,), weighted."""
        logits = self._logits(fc8)
        if self.identity_loss == "rss":
            loss = random_sampling_softmax(logits, classes, self.rss_sampled)
        else:
            loss = softmax_loss(logits, classes)
        return loss * self.identity_weight

    def classifier_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the loss ``softmax``, eq. 1 over all classes, of crops from `training.crops`.

        A crop keeps its size, and its box is pooled as a region of a picture would be. Crops are
        (3, h, w) of one size; each has a box (1, 4), and an id (1,) or `BACKGROUND`.
        """
        crops = torch.stack([self.transform.normalize(image) for image in images])
        batch = ImageList(crops, [(crops.shape[2], crops.shape[3])] * len(images))
        maps = FeatureMaps(images, batch, self.stem(crops))
        ids = torch.cat([target.ids for target in targets])
        features = self.roi_features(maps, [target.boxes.float() for target in targets])
        classes = ids.masked_fill(ids == BACKGROUND, self.num_ids)
        return {"softmax": softmax_loss(self._logits(self._fc8(features)), classes)}

    def classifier_parameters(self) -> list[nn.Parameter]:
        """Return what the classifier of crops trains: all but proposals, boxes and scores."""
        parts = (self.stem, self.head, self.fc8, self.classifier)
        return [p for part in parts for p in part.parameters() if p.requires_grad]
