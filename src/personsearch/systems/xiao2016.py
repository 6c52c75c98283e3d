"""End-to-end deep learning for person search (Xiao et al. 2016, section 4).

picture -> conv1-conv5 -> proposals -> RoI pooling -> fc6, fc7 -> box
                                                            fc7 -> fc8 -> one of C ids or background
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from personsearch.detectors.backbones import Backbone, published_weights, read_weights
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    Proposals,
    SampledRegions,
    fully_connected,
    grid,
    split_like,
)
from personsearch.errors import ModelError
from personsearch.losses.rss import random_sampling_softmax
from personsearch.losses.softmax import softmax_loss
from personsearch.systems.base import Target
from personsearch.systems.regions import (
    DetectionStep,
    FeatureMaps,
    RegionSettings,
    SharedHeadSystem,
)
from personsearch.types import BACKGROUND, UNLABELLED

PAPER_REGIONS = RegionSettings(anchor_sizes=(128, 256, 512), roi_size=(7, 7))
"""Nine anchors a cell (section 4.1), and the size of VGG16's last pooling."""


class Xiao2016(SharedHeadSystem):
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
        hidden: int = 4096,  # width of fc6 and fc7, which follow the backbone's head; 0 has none
        fc_weights: str = "none",  # "none", "imagenet" (VGG16's, fetched once) or a weights file
        embedding_grid: Sequence[int] = (7, 7),  # rows and columns of the average before fc6
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
        if regions.detection_hidden and detection_score != "classifier":
            raise ModelError(
                f"detection_hidden is {regions.detection_hidden}, but with detection_score "
                f"{detection_score!r} boxes are read off fc7; set detection_hidden = 0 or "
                "detection_score = 'classifier'"
            )
        self.num_ids, self.confidence_weighted = num_ids, confidence_weighted
        self.roi_pooling, self.embed_boxes = roi_pooling, embed_boxes
        self.identity_loss, self.rss_sampled = identity_loss, rss_sampled
        self.identity_weight, self.identity_scale = identity_weight, identity_scale
        self.reid_min_iou, self.detection_score = reid_min_iou, detection_score
        # Built twice, so that a seed gives the same first weights as in version 0.1.
        self.proposals = self.build_proposals(backbone)
        self.embedding_grid = grid("embedding_grid", embedding_grid)
        self.fc6_7, width = fully_connected(
            backbone.head_channels * math.prod(self.embedding_grid), hidden
        )
        if fc_weights != "none":
            load_fully_connected(self.fc6_7, fc_weights)
        self.fc8 = nn.Linear(width, embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_ids + 1, bias=identity_scale == 0)
        self.box_predictor = (
            self.build_box_predictor(backbone, width)
            if detection_score == "classifier"
            else BoxPredictor(width, classify=False)
        )

    def run_head(self, pooled: Tensor) -> Tensor:
        """Return the output of fc7 as (R, W, 1, 1)."""
        averaged = functional.adaptive_avg_pool2d(self.head(pooled), self.embedding_grid)
        fc7: Tensor = self.fc6_7(averaged.flatten(1))
        return fc7[..., None, None]

    def embedding(self, output: Tensor) -> Tensor:
        """Return unit embeddings (R, D) of the output of fc7.

        The paper compares fc8 by Euclidean distance; at unit length, its order is the cosine's.
        """
        return functional.normalize(self.fc8(output.flatten(1)).float(), dim=1)

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

    def score(self, features: Tensor, logits: Tensor, proposals: Proposals) -> Sequence[Tensor]:
        """Return the scores that `detection_score` names."""
        if self.detection_score == "proposal":
            return proposals.scores
        if self.detection_score == "classifier":
            return super().score(features, logits, proposals)
        probabilities = self._logits(self.fc8(features.flatten(1))).float().softmax(dim=1)
        return split_like(1.0 - probabilities[:, -1], proposals.boxes)

    def identity_losses(self, step: DetectionStep[Tensor]) -> dict[str, Tensor]:
        """Return the loss ``identity`` of all sampled regions, background included."""
        fc7 = self.run_head(step.features) if self.detection_apart else step.features
        fc8 = self.fc8(fc7.flatten(1))
        return {"identity": self._identity_loss(fc8, self.classes(step.regions))}

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

    def crop_loss(self, embeddings: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """Return the loss ``identity`` of people on canvases, if the softmax reads cosines."""
        if not self.identity_scale:
            return super().crop_loss(embeddings, ids)
        return {"identity": self._identity_loss(embeddings, ids)}

    def classifier_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the loss ``softmax``, eq. 1 over all classes, of crops from `training.crops`.

        A crop keeps its size, and its box is pooled as a region of a picture would be. Crops are
        (3, h, w) of one size; each has a box (1, 4), and an id (1,) or `BACKGROUND`.
        """
        crops = torch.stack([self.transform.normalize(image) for image in images])
        batch = ImageList(crops, [(crops.shape[2], crops.shape[3])] * len(images))
        maps = FeatureMaps(images, batch, self.stem(crops))
        ids = torch.cat([target.ids for target in targets])
        fc7 = self.run_head(self.pool(maps, [target.boxes.float() for target in targets]))
        classes = ids.masked_fill(ids == BACKGROUND, self.num_ids)
        return {"softmax": softmax_loss(self._logits(self.fc8(fc7.flatten(1))), classes)}

    def classifier_parameters(self) -> list[nn.Parameter]:
        """Return what the classifier of crops trains: all but proposals, boxes and scores."""
        parts = (self.stem, self.head, self.fc6_7, self.fc8, self.classifier)
        return [p for part in parts for p in part.parameters() if p.requires_grad]


def load_fully_connected(layers: nn.Sequential, weights: str) -> None:
    """Initialise `fully_connected` layers from VGG16's: ``"imagenet"``, or its state dictionary.

    Raises:
        ModelError: the weights cannot be read or fetched, or do not fit.
    """
    state = published_weights("vgg16") if weights == "imagenet" else read_weights(Path(weights))
    # torchvision's names: a dropout lies in between.
    names = {"0": "classifier.0", "2": "classifier.3"}
    kinds = ("weight", "bias")
    try:
        chosen = {f"{o}.{k}": state[f"{t}.{k}"] for o, t in names.items() for k in kinds}
        layers.load_state_dict(chosen)
    except (KeyError, RuntimeError) as error:
        first = str(error).split("\n\t")[-1]
        raise ModelError(
            f"fc_weights {weights!r} do not fit fc6 and fc7: {first}; they need backbone 'vgg16', "
            "hidden = 4096 and embedding_grid = [7, 7], else set fc_weights = 'none'"
        ) from None
