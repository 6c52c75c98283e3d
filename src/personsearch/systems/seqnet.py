"""SeqNet: sequential end-to-end network for efficient person search (Li and Miao 2021).

Two heads in sequence: a Faster R-CNN head turns proposals into boxes, then a norm-aware head (NAE)
embeds these better boxes and refines them once more. A query can be matched together with the
people around it (CBGM, `personsearch.evaluation.context_matching`).
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    Proposals,
    decode_boxes,
    detection_losses,
    split_like,
)
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.nae import NormAwareSystem
from personsearch.systems.regions import FeatureMaps, RegionFeatures, RegionSettings

PUBLISHED = RegionSettings(min_size=900, max_size=1500, nms_iou=0.5)
"""The region settings that SeqNet was published with. Boxes of the second head are better than
proposals, so suppression allows more overlap.
"""


class SeqNet(NormAwareSystem):
    """A Faster R-CNN head, then a norm-aware head on its boxes.

    A detection's score is the first head's, which is trained on more background, as published.

    Arguments without a comment are those of `NAE` and `OIM`.
    """

    def __init__(
        self,
        backbone: Backbone,  # ResNet-50 as published; each head has its own conv5
        num_ids: int,
        *,
        embedding_dim: int = 256,
        queue_size: int = 5000,
        oim_momentum: float = 0.5,
        oim_temperature: float = 1 / 30,
        oim_weight: float = 1.0,
        oim_min_iou: float = 0.5,
        proposal_box_weight: float = 10.0,  # of the first head's box loss
        box_weight: float = 1.0,  # of the second head's
        box_beta: float = 1.0,  # where smooth L1 turns from square to linear, in both
        box_norm: bool = True,  # batch normalisation of the second head's box deltas
        first_nms_iou: float = 0.4,  # IoU above which boxes of the first head are suppressed
        confidence_weighted: bool = True,
        regions: RegionSettings = PUBLISHED,  # `nms_iou` is of the final boxes
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.oim_weight, self.oim_min_iou = oim_weight, oim_min_iou
        self.proposal_box_weight, self.box_weight = proposal_box_weight, box_weight
        self.box_beta = box_beta
        self.first_nms_iou, self.confidence_weighted = first_nms_iou, confidence_weighted
        # first head
        self.first_head = backbone.copy_detection_head()
        self.first = BoxPredictor(backbone.detection_channels)
        for layer in (self.first.classifier, self.first.regressor):
            if layer is not None:
                layer.reset_parameters()  # uniform, as in torchvision's Faster R-CNN
        # second head
        self._add_heads(backbone, box_norm)
        self.oim = OnlineInstanceMatching(
            num_ids, embedding_dim, queue_size, oim_momentum, oim_temperature
        )

    def propose(
        self,
        maps: FeatureMaps,
        boxes: list[Tensor] | None = None,
        ids: list[Tensor] | None = None,
    ) -> Proposals:
        """Refine proposals by the first head: its boxes are the second head's regions.

        With true `boxes` and `ids` these are the boxes of sampled regions, without suppression,
        and the losses are ``rpn_*``, ``proposal`` and ``proposal_box``.
        """
        found = super().propose(maps, boxes)
        sizes = maps.batch.image_sizes
        if boxes is not None and ids is not None:
            sampled = self.sampler(found.boxes, boxes, ids)
            logits, deltas = self._first(maps, sampled.boxes)
            first = detection_losses(logits, deltas, sampled, self.box_beta)
            losses = found.losses | {
                "proposal": first["detection"],
                "proposal_box": first["box"] * self.proposal_box_weight,
            }
            # No gradient goes through a box: the second head takes it as a constant.
            refined = decode_boxes(self.sampler.coder, deltas.detach(), sampled.boxes, sizes)
            return Proposals(refined, [], losses)
        logits, deltas = self._first(maps, found.boxes)
        scores = split_like(logits.float().softmax(dim=1)[:, 1], found.boxes)
        refined = decode_boxes(self.sampler.coder, deltas, found.boxes, sizes)
        kept = self.select(refined, scores, self.first_nms_iou)
        return Proposals(
            [b[k] for b, k in zip(refined, kept, strict=True)],
            [s[k] for s, k in zip(scores, kept, strict=True)],
            {},
        )

    def _first(self, maps: FeatureMaps, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (R, 2), background first, and deltas (R, 4) of the first head."""
        features = RegionFeatures(maps.features, self.regions(boxes), self.first_head)
        # One cell, which the predictor's own average leaves as it is.
        logits, deltas = self.first(functional.adaptive_max_pool2d(features.deep, 1))
        return logits, deltas

    def score(
        self, features: RegionFeatures, logits: Tensor, proposals: Proposals
    ) -> Sequence[Tensor]:
        """Return the first head's scores."""
        return proposals.scores
