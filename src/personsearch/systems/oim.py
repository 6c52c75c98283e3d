"""OIM: joint detection and identification feature learning for person search (Xiao et al. 2017).

picture -> stem -> shared map -> proposals -> RoI pooling -> head -> average -> three branches:
person or not, box, and a unit embedding trained by online instance matching. Defaults are those of
the authors' program, on py-faster-rcnn; its region settings are in the recipe ``cuhk-sysu/oim``.
"""

import math

from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import BoxPredictor, Pooling
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.regions import (
    DetectionStep,
    RegionFeatures,
    RegionSettings,
    RegionSystem,
)


class InstanceMatchingSystem(RegionSystem):
    """The base of OIM, NAE and SeqNet: online instance matching trains the embeddings."""

    oim: OnlineInstanceMatching
    oim_weight: float
    oim_min_iou: float
    adaptive: bool = False  # adaptive gradient weighting (Han et al. 2021); in none as published

    def identity_losses(self, step: DetectionStep) -> dict[str, Tensor]:
        """Return the loss ``oim`` (eq. 4) of people's regions."""
        embeddings, person = self.embed_people(step, self.oim_min_iou)
        alpha = None
        if self.adaptive:
            alpha = self.person_probability(step.logits[person]).detach()
        return {"oim": self.oim(embeddings, step.regions.ids[person], alpha) * self.oim_weight}


class OIM(InstanceMatchingSystem):
    """Faster R-CNN with an embedding on each region, trained by `OnlineInstanceMatching`."""

    def __init__(
        self,
        backbone: Backbone,  # the cut network; ResNet-50 in the paper
        num_ids: int,  # labelled identities in the training set
        *,
        embedding_dim: int = 256,  # length of an embedding
        queue_size: int = 5000,  # unlabelled embeddings kept; 5,000 for CUHK-SYSU, 500 for PRW
        oim_momentum: float = 0.5,  # share of the old value in an update of the lookup table
        oim_temperature: float = 0.1,  # of the softmax over lookup table and queue
        oim_weight: float = 1.0,  # of the OIM loss in the sum
        oim_min_iou: float = 0.5,  # least IoU with a person's box of the regions in the loss
        # adaptive gradient weighting by the probability of a person (Han et al. 2021); not in OIM
        adaptive: bool = False,
        box_beta: float = 1.0,  # where smooth L1 of the boxes turns from square to linear
        # the authors' RoI pooling, or the RoIAlign of those who trained OIM later
        roi_pooling: Pooling = "max",
        # no loss on anchors across the border, no proposals narrower than a cell, as there
        py_faster_rcnn: bool = True,
        embed_boxes: bool = False,  # embed the final boxes instead of their proposals
        confidence_weighted: bool = False,  # multiply similarity by the gallery detection's score
        regions: RegionSettings = RegionSettings(),  # pictures, proposals, regions and detections
    ) -> None:
        self.py_faster_rcnn = py_faster_rcnn  # read while the proposal network is built
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.confidence_weighted = confidence_weighted
        self.embed_boxes, self.oim_min_iou, self.oim_weight = embed_boxes, oim_min_iou, oim_weight
        self.adaptive, self.box_beta, self.roi_pooling = adaptive, box_beta, roi_pooling
        self.box_predictor = BoxPredictor(backbone.detection_channels)
        self.embedder = nn.Linear(backbone.head_channels * math.prod(self.cells), embedding_dim)
        nn.init.kaiming_normal_(self.embedder.weight)
        nn.init.zeros_(self.embedder.bias)
        self.oim = OnlineInstanceMatching(
            num_ids, embedding_dim, queue_size, oim_momentum, oim_temperature
        )

    def embed_features(self, features: RegionFeatures) -> Tensor:
        """Return unit embeddings (R, D): a linear layer on the head's average."""
        return functional.normalize(self.embedder(self.average(features)).float(), dim=1)
