"""OIM: joint detection and identification feature learning for person search (Xiao et al. 2017).

picture -> stem -> shared map -> proposals -> RoIAlign -> head -> average -> three branches:
person or not, box, and a unit embedding trained by online instance matching.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    SampledRegions,
    decode_boxes,
    detection_losses,
    grid,
)
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.base import Target
from personsearch.systems.regions import RegionSettings, RegionSystem, View
from personsearch.types import Detections


class OIM(RegionSystem):
    """Faster R-CNN with an embedding on each region, trained by `OnlineInstanceMatching`.

    Args:
        backbone: the cut network; ResNet-50 in the paper.
        num_ids: labelled identities in the training set.

        embedding_dim: length of an embedding.
        queue_size: unlabelled people that are remembered; 5,000 for CUHK-SYSU, 500 for PRW.
        oim_momentum: the share of the old value in an update of the lookup table.
        oim_temperature: of the softmax over what is remembered.
        oim_weight: of the OIM loss in the sum.
        oim_min_iou: regions nearer than this to a person's box are embedded in training.
        embedding_grid: rows and columns that the head's output is averaged over before the
            embedding; (1, 1) is the paper's global average.
        embed_boxes: embed the final boxes instead of the proposals that they come from; queries
            are embedded on their boxes either way.
        confidence_weighted: multiply similarity by the gallery detection's score.
        regions: pictures, proposals, regions and detections.
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
        embed_boxes: bool = False,
        confidence_weighted: bool = False,
        regions: RegionSettings = RegionSettings(),
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.confidence_weighted = confidence_weighted
        self.embed_boxes, self.oim_min_iou, self.oim_weight = embed_boxes, oim_min_iou, oim_weight
        self.embedding_grid = grid("embedding_grid", embedding_grid)
        self.detection_apart = regions.detection_hidden > 0
        self.box_predictor = BoxPredictor(
            backbone.stem_channels if self.detection_apart else backbone.head_channels,
            grid("detection_grid", regions.detection_grid),
            regions.detection_hidden,
        )
        self.embedder = nn.Linear(
            backbone.head_channels * math.prod(self.embedding_grid), embedding_dim
        )
        self.oim = OnlineInstanceMatching(
            num_ids, embedding_dim, queue_size, oim_momentum, oim_temperature
        )

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses ``rpn_objectness``, ``rpn_box``, ``detection``, ``box`` and ``oim``."""
        view = self.look(images)
        boxes, ids = self.scale(view, targets)
        losses, regions, seen = self._detection_losses(view, boxes, ids)
        person = regions.foreground & (regions.ious >= self.oim_min_iou)
        if not person.any():
            embeddings = seen.new_zeros((0, self.embedding_dim))
        elif self.detection_apart:
            embeddings = self._embedding(self.head(seen[person]))
        else:
            embeddings = self._embedding(seen[person])
        losses["oim"] = self.oim(embeddings, regions.ids[person]) * self.oim_weight
        return losses

    def detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> dict[str, Tensor]:
        """The four detection losses."""
        return self._detection_losses(view, boxes, ids)[0]

    def _detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> tuple[dict[str, Tensor], SampledRegions, Tensor]:
        """The four detection losses, the regions that they are of, and what was read of these.

        That is what was pooled where detection stands apart, else what the head saw of it.
        """
        proposals, losses = self.proposals(view.batch, view.features, boxes)
        regions = self.sampler(proposals, boxes, ids)
        seen = self.pool(view, regions.boxes)
        if not self.detection_apart:
            seen = self.head(seen)
        logits, deltas = self.box_predictor(seen)
        losses |= detection_losses(logits, deltas, regions)
        weight = self.settings.detection_weight
        return {name: loss * weight for name, loss in losses.items()}, regions, seen

    def _embedding(self, seen: Tensor) -> Tensor:
        """Unit embeddings (R, D) of what the head saw (R, C', h', w')."""
        averaged = functional.adaptive_avg_pool2d(seen, self.embedding_grid).flatten(1)
        return functional.normalize(self.embedder(averaged).float(), dim=1)

    def embed_regions(self, view: View, boxes: list[Tensor]) -> Tensor:
        """Unit embeddings (R, D) of `boxes` in pixels of the batch."""
        return self._embedding(self.head(self.pool(view, boxes)))

    def crop_loss(self, embeddings: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """Loss ``oim`` on true boxes."""
        return {"oim": self.oim(embeddings, ids) * self.oim_weight}

    def remember(self, embeddings: Tensor, ids: Tensor) -> None:
        """Fills the lookup table, so that the next stage starts with it."""
        self.oim.remember(embeddings, ids)

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Everyone in each picture, boxes in the picture's pixels, by descending score."""
        view = self.look(images)
        proposals, _ = self.proposals(view.batch, view.features)
        pooled = self.pool(view, proposals)
        seen = None if self.detection_apart else self.head(pooled)
        logits, deltas = self.box_predictor(pooled if seen is None else seen)
        counts = [len(p) for p in proposals]
        scores = logits.float().softmax(dim=1)[:, 1].split(counts)
        decoded = decode_boxes(self.sampler.coder, deltas, proposals, view.batch.image_sizes)
        kept = self.select(decoded, scores)
        boxes = [b[k] for b, k in zip(decoded, kept, strict=True)]
        if self.embed_boxes:
            embeddings = self.embed_regions(view, boxes)
        elif seen is None:
            regions = [p[k] for p, k in zip(proposals, kept, strict=True)]
            embeddings = self.embed_regions(view, regions)
        else:
            rows = [k + start for k, start in zip(kept, _starts(counts), strict=True)]
            embeddings = self._embedding(seen[torch.cat(rows)])
        sure = [s[k] for s, k in zip(scores, kept, strict=True)]
        return self.finish(view, boxes, sure, embeddings.split([len(k) for k in kept]))


def _starts(counts: Sequence[int]) -> list[int]:
    """Where each run of rows starts."""
    return [sum(counts[:index]) for index in range(len(counts))]
