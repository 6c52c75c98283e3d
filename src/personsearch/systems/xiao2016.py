"""End-to-end deep learning for person search (Xiao et al. 2016, section 4).

picture -> conv1-conv5 -> proposals -> RoI pooling -> fc6, fc7 -> box
                                                            fc7 -> fc8 -> one of C ids or background

Where the paper is silent, the authors' code decides: branch v1 of ShuangLI59/person_search.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    Pooling,
    Proposals,
    SampledRegions,
    box_loss,
    split_like,
)
from personsearch.distributed import dropout
from personsearch.errors import ModelError
from personsearch.losses.rss import random_sampling_softmax
from personsearch.losses.softmax import softmax_loss
from personsearch.systems.base import Metric, Target
from personsearch.systems.regions import (
    DetectionStep,
    FeatureMaps,
    RegionFeatures,
    RegionSettings,
    RegionSystem,
)
from personsearch.types import BACKGROUND

PAPER_REGIONS = RegionSettings(
    anchor_sizes=(128, 256, 512),
    roi_size=(7, 7),
    roi_positive_fraction=0.25,
    score_threshold=0.05,
    max_detections=100,
)
"""Nine anchors a cell (section 4.1), VGG16's last pooling, and what the authors' code sets."""


class Xiao2016(RegionSystem):
    """Faster R-CNN whose second step tells identities and background apart.

    The loss is the sum of four (section 4.2): objectness and boxes of proposals, boxes of regions,
    and the identity softmax. Background is one more class of that softmax, so one minus its
    probability is the score of a detection. People without an identity have no class. Regions are
    sampled without gradient: no loss reaches their coordinates (footnote 2). Search compares fc8 by
    Euclidean distance (section 4.3).

    Raises:
        ModelError: `rss_sampled` is below 2.
    """

    metric: Metric = "euclidean"
    py_faster_rcnn = True

    def __init__(
        self,
        backbone: Backbone,  # the cut network; VGG16 in the paper
        num_ids: int,  # C, labelled identities in the training set
        *,
        embedding_dim: int = 256,  # width of fc8
        roi_pooling: Pooling = "max",  # RoI pooling as in the paper, or RoIAlign
        identity_loss: Literal["rss", "softmax"] = "rss",  # eq. 2 or eq. 1, on whole pictures
        rss_sampled: int = 100,  # K of RSS
        dropout: float = 0.5,  # rate after fc6, fc7 and fc8 in training
        embed_boxes: bool = False,  # embed the final boxes instead of their proposals
        regions: RegionSettings = PAPER_REGIONS,  # pictures, proposals, regions and detections
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        if rss_sampled < 2:
            raise ModelError(
                f"rss_sampled is {rss_sampled}, expected at least 2: the label and the background"
            )
        self.num_ids, self.dropout = num_ids, dropout
        self.roi_pooling, self.embed_boxes = roi_pooling, embed_boxes
        self.num_sampled = rss_sampled if identity_loss == "rss" else num_ids + 1
        self.box_predictor = BoxPredictor(backbone.detection_channels, classify=False)
        self.fc8 = nn.Linear(backbone.head_channels * math.prod(self.cells), embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_ids + 1)
        for layer, std in ((self.fc8, 0.01), (self.classifier, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def region_losses(
        self, logits: Tensor, deltas: Tensor, regions: SampledRegions
    ) -> dict[str, Tensor]:
        """Return the loss ``box`` of the sampled regions."""
        return {"box": box_loss(deltas, regions, beta=1.0)}

    def identity_losses(self, step: DetectionStep) -> dict[str, Tensor]:
        """Return the loss ``identity`` of all sampled regions, background included."""
        classes = torch.where(step.regions.foreground, step.regions.ids, self.num_ids)
        scores = self.classifier(self.run_fc8(step.features))
        loss = random_sampling_softmax(scores, classes, self.num_sampled)
        return {"identity": loss * step.regions.share}

    def score(
        self, features: RegionFeatures, logits: Tensor, proposals: Proposals
    ) -> Sequence[Tensor]:
        """Return one minus the probability of background."""
        probabilities = self.classifier(self.run_fc8(features)).float().softmax(dim=1)
        return split_like(1.0 - probabilities[:, -1], proposals.boxes)

    def embed_features(self, features: RegionFeatures) -> Tensor:
        """Return fc8 (R, D) of regions, of any length."""
        return self.run_fc8(features).float()

    def run_fc8(self, features: RegionFeatures) -> Tensor:
        """Return fc8 (R, D), not negative, of regions: a layer on fc7, the head's output."""
        fc8 = torch.relu(self.fc8(self.average(features)))
        return dropout(fc8, features.dropout) if features.dropout else fc8

    def classifier_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the loss ``softmax``, eq. 1 over all classes, of crops from `training.crops`.

        Crops (3, h, w) have one size; each has a box (1, 4), and an id (1,) or `BACKGROUND`. Of a
        whole crop of 224 x 224 pixels the 14 x 14 cells are pooled two by two, as VGG16 does.
        """
        crops = torch.stack([self.transform.normalize(image) for image in images])
        batch = ImageList(crops, [(crops.shape[2], crops.shape[3])] * len(images))
        maps = FeatureMaps(images, batch, self.stem(crops))
        # RoI pooling counts the cell of the last corner in.
        last = float(self.stride) if self.roi_pooling == "max" else 0.0
        boxes = [target.boxes - target.boxes.new_tensor([0, 0, last, last]) for target in targets]
        features = self.roi_features(maps, boxes, dropout=self.dropout)
        ids = torch.cat([target.ids for target in targets])
        classes = ids.masked_fill(ids == BACKGROUND, self.num_ids)
        return {"softmax": softmax_loss(self.classifier(self.run_fc8(features)), classes)}

    def classifier_parameters(self) -> list[nn.Parameter]:
        """Return what the classifier of crops trains: all but proposals and boxes."""
        parts = (self.stem, self.head, self.fc8, self.classifier)
        return [p for part in parts for p in part.parameters() if p.requires_grad]
