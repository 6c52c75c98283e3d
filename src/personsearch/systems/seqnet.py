"""SeqNet: sequential end-to-end network for efficient person search (Li and Miao 2021).

Two heads in sequence: a Faster R-CNN head turns proposals into boxes, then a norm-aware head (NAE)
embeds these better boxes and refines them once more. Search can then match a query together with
the people around it (CBGM, `personsearch.evaluation.context_matching`).
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    RegionSampler,
    SampledRegions,
    decode_boxes,
    grid,
    select_detections,
)
from personsearch.losses.norm_aware import person_loss
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.base import Target
from personsearch.systems.nae import BoxRegressor, NormAwareHead, box_loss
from personsearch.systems.regions import RegionSettings, RegionSystem, View
from personsearch.types import Detections

PUBLISHED = RegionSettings(min_size=900, max_size=1500, nms_iou=0.5)
"""The region settings that SeqNet was published with: the boxes that come out of the second head
are better than proposals, so more overlap is let through.
"""


class SeqNet(RegionSystem):
    """A Faster R-CNN head, then a norm-aware head on its boxes.

    Args:
        backbone: the cut network; ResNet-50 as published. Each head has its own copy of conv5.
        num_ids: labelled identities in the training set.

        embedding_dim: length of an embedding, half from the shared map, half from the head.
        queue_size: unlabelled people that are remembered; 5,000 for CUHK-SYSU, 500 for PRW.
        oim_momentum: the share of the old value in an update of the lookup table.
        oim_temperature: of the softmax over what is remembered.
        oim_weight: of the OIM loss in the sum.
        oim_min_iou: boxes nearer than this to a person's box are told apart in training.
        embedding_grid: rows and columns that the maps are max-pooled to; (1, 1) as published.
        proposal_box_weight, box_weight: of the first and the second head's box losses.
        box_beta: where smooth L1 turns from square to linear, in both.
        box_norm: batch normalisation of the second head's box deltas.
        second_weight: of the second head's person and box losses.
        second_score: whether a detection's score is the second head's; as published it is the
            first head's, which is trained on more background.
        first_nms_iou: boxes of the first head nearer than this to a better one are suppressed.
        confidence_weighted: multiply similarity by the gallery detection's score, as published.
        regions: pictures, proposals, regions and detections; `nms_iou` is of the final boxes.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_ids: int,
        *,
        embedding_dim: int = 256,
        queue_size: int = 5000,
        oim_momentum: float = 0.5,
        oim_temperature: float = 1 / 30,
        oim_weight: float = 1.0,
        oim_min_iou: float = 0.5,
        embedding_grid: Sequence[int] = (1, 1),
        proposal_box_weight: float = 10.0,
        box_weight: float = 1.0,
        box_beta: float = 1.0,
        box_norm: bool = True,
        second_weight: float = 1.0,
        second_score: bool = False,
        first_nms_iou: float = 0.4,
        confidence_weighted: bool = True,
        regions: RegionSettings = PUBLISHED,
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.oim_weight, self.oim_min_iou = oim_weight, oim_min_iou
        self.proposal_box_weight, self.box_weight = proposal_box_weight, box_weight
        self.box_beta = box_beta
        self.second_weight, self.second_score = second_weight, second_score
        self.first_nms_iou, self.confidence_weighted = first_nms_iou, confidence_weighted
        shallow, deep = backbone.stem_channels, backbone.head_channels
        # first head
        apart = regions.detection_hidden > 0
        self.first_head = None if apart else deepcopy(backbone.head)
        self.first_cells = grid("detection_grid", regions.detection_grid)
        self.first = BoxPredictor(
            shallow if apart else deep, self.first_cells, regions.detection_hidden
        )
        # second head
        self.embedder = NormAwareHead(
            shallow, deep, embedding_dim, grid("embedding_grid", embedding_grid)
        )
        self.regressor = BoxRegressor(shallow, deep, regions, box_norm)
        self.second_sampler = RegionSampler(regions.rois_per_image, regions.roi_positive_fraction)
        self.oim = OnlineInstanceMatching(
            num_ids, embedding_dim, queue_size, oim_momentum, oim_temperature
        )

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses ``rpn_*``, ``proposal`` and ``proposal_box`` of the first head, ``detection``,
        ``box`` and ``oim`` of the second.
        """
        view = self.look(images)
        boxes, ids = self.scale(view, targets)
        losses, regions, embeddings = self._detection_losses(view, boxes, ids)
        person = regions.foreground & (regions.ious >= self.oim_min_iou)
        losses["oim"] = self.oim(embeddings[person], regions.ids[person]) * self.oim_weight
        return losses

    def detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> dict[str, Tensor]:
        """The losses of the proposals and of both heads, but for the identity's."""
        return self._detection_losses(view, boxes, ids)[0]

    def _detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> tuple[dict[str, Tensor], SampledRegions, Tensor]:
        """The detection losses, the second head's regions, and their embeddings."""
        proposals, losses = self.proposals(view.batch, view.features, boxes)
        first = self.sampler(proposals, boxes, ids)
        logits, deltas = self._first(view, first.boxes)
        losses |= {
            "proposal": functional.cross_entropy(logits.float(), first.foreground.long()),
            "proposal_box": box_loss(deltas, first, self.box_beta) * self.proposal_box_weight,
        }
        # No gradient goes through a box: the second head sees it as it came.
        refined = decode_boxes(
            self.sampler.coder, deltas.detach(), first.boxes, view.batch.image_sizes
        )
        second = self.second_sampler(refined, boxes, ids)
        embeddings, logits, deltas = self._second(view, second.boxes)
        losses |= {
            "detection": person_loss(logits, second.foreground) * self.second_weight,
            "box": box_loss(deltas, second, self.box_beta) * self.box_weight * self.second_weight,
        }
        weight = self.settings.detection_weight
        return {name: loss * weight for name, loss in losses.items()}, second, embeddings

    def _first(self, view: View, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (R, 2), background first, and deltas (R, 4) of the first head."""
        seen = self.pool(view, boxes)
        if self.first_head is not None:
            # The predictor's own average over cells then has one value in each.
            seen = functional.adaptive_max_pool2d(self.first_head(seen), self.first_cells)
        predicted: tuple[Tensor, Tensor] = self.first(seen)
        return predicted

    def _second(self, view: View, boxes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Unit embeddings (R, D), person logits (R,) and deltas (R, 4) of the second head."""
        pooled = self.pool(view, boxes)
        deep = self.head(pooled)
        embeddings, logits = self.embedder(pooled, deep)
        return embeddings, logits, self.regressor(pooled, deep)

    def embed_regions(self, view: View, boxes: list[Tensor]) -> Tensor:
        """Unit embeddings (R, D) of `boxes` in pixels of the batch."""
        pooled = self.pool(view, boxes)
        embeddings: Tensor = self.embedder(pooled, self.head(pooled))[0]
        return embeddings

    def crop_loss(self, embeddings: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """Loss ``oim`` on true boxes."""
        return {"oim": self.oim(embeddings, ids) * self.oim_weight}

    def remember(self, embeddings: Tensor, ids: Tensor) -> None:
        """Fills the lookup table, so that the next stage starts with it."""
        self.oim.remember(embeddings, ids)

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Everyone in each picture, boxes in the picture's pixels, by descending score."""
        view, limits = self.look(images), self.settings
        proposals, _ = self.proposals(view.batch, view.features)
        logits, deltas = self._first(view, proposals)
        counts = [len(p) for p in proposals]
        scores = logits.float().softmax(dim=1)[:, 1].split(counts)
        sizes = view.batch.image_sizes
        boxes = decode_boxes(self.sampler.coder, deltas, proposals, sizes)
        rows = [
            select_detections(
                b, s, limits.score_threshold, self.first_nms_iou, limits.max_detections
            )
            for b, s in zip(boxes, scores, strict=True)
        ]
        first_boxes = [b[r] for b, r in zip(boxes, rows, strict=True)]
        first_scores = [s[r] for s, r in zip(scores, rows, strict=True)]
        embeddings, person, deltas = self._second(view, first_boxes)
        counts = [len(b) for b in first_boxes]
        final = decode_boxes(self.second_sampler.coder, deltas, first_boxes, sizes)
        sure = list(person.sigmoid().split(counts)) if self.second_score else first_scores
        kept = self.select(final, sure)
        return self.finish(
            view,
            [b[k] for b, k in zip(final, kept, strict=True)],
            [s[k] for s, k in zip(sure, kept, strict=True)],
            [e[k] for e, k in zip(embeddings.split(counts), kept, strict=True)],
        )
