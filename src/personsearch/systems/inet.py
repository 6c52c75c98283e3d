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
from torchvision.ops import roi_pool

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    SampledRegions,
    decode_boxes,
    detection_losses,
    grid,
)
from personsearch.systems.base import Target
from personsearch.systems.pairing import PairingLosses, PairingSettings
from personsearch.systems.regions import RegionSettings, RegionSystem, View
from personsearch.types import Detections

PAPER_LOSSES = PairingSettings(pairing_loss="olp", identity_loss="hep")
"""Eq. 6."""

PAPER_REGIONS = RegionSettings(anchor_sizes=(128, 256, 512), roi_size=(7, 7))
"""Nine anchors a cell (section 3.1), and the size of VGG16's RoI pooling."""


class INet(RegionSystem):
    """Faster R-CNN whose two fully connected layers also give each region an embedding.

    Pictures come in groups that share identities (`datasets.pairs.PairSampler`); both streams of
    the Siamese network are one network, the batch holds the pictures of all streams.

    Args:
        backbone: the cut network; VGG16 in the paper.
        num_ids: labelled identities in the training set.

        embedding_dim: length of an embedding.
        hidden: width of fc6 and fc7, which follow the backbone's head; 0 has none.
        embedding_grid: rows and columns that the head's output is averaged over before them.
        roi_pooling: ``"max"`` is RoI pooling as in the paper, ``"align"`` is RoIAlign.
        reid_min_iou: regions nearer than this to a person's box are embedded in training.
        embed_boxes: embed the final boxes instead of the proposals that they come from; queries
            are embedded on their boxes either way.
        confidence_weighted: multiply similarity by the gallery detection's score.
        pairing: the re-identification losses.
        regions: pictures, proposals, regions and detections.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_ids: int,
        *,
        embedding_dim: int = 256,
        hidden: int = 4096,
        embedding_grid: Sequence[int] = (7, 7),
        roi_pooling: Literal["max", "align"] = "max",
        reid_min_iou: float = 0.5,
        embed_boxes: bool = False,
        confidence_weighted: bool = False,
        pairing: PairingSettings = PAPER_LOSSES,
        regions: RegionSettings = PAPER_REGIONS,
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.confidence_weighted = confidence_weighted
        self.roi_pooling, self.embed_boxes = roi_pooling, embed_boxes
        self.reid_min_iou = reid_min_iou
        self.embedding_grid = grid("embedding_grid", embedding_grid)
        self.fc6_7, width = fully_connected(
            backbone.head_channels * math.prod(self.embedding_grid), hidden
        )
        self.detection_apart = regions.detection_hidden > 0
        self.box_predictor = (
            BoxPredictor(
                backbone.stem_channels,
                grid("detection_grid", regions.detection_grid),
                regions.detection_hidden,
            )
            if self.detection_apart
            else BoxPredictor(width)
        )
        self.embedder = nn.Linear(width, embedding_dim)
        self.reid = PairingLosses(num_ids, embedding_dim, pairing)

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses ``rpn_objectness``, ``rpn_box``, ``detection``, ``box``, and those of eq. 6 that
        are named by their kind, such as ``olp`` and ``hep``.
        """
        view = self.look(images)
        boxes, ids = self.scale(view, targets)
        losses, regions, seen = self._detection_losses(view, boxes, ids)
        person = regions.foreground & (regions.ious >= self.reid_min_iou)
        pictures = picture_of_each(regions.boxes)
        if not person.any():
            embeddings = seen.new_zeros((0, self.embedding_dim))
        elif self.detection_apart:
            embeddings = self._embedding(self._read(seen[person]))
        else:
            embeddings = self._embedding(seen[person])
        reid: dict[str, Tensor] = self.reid(embeddings, regions.ids[person], pictures[person])
        return losses | reid

    def detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> dict[str, Tensor]:
        """The four detection losses."""
        return self._detection_losses(view, boxes, ids)[0]

    def _detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> tuple[dict[str, Tensor], SampledRegions, Tensor]:
        """The four detection losses, the regions that they are of, and what was read of these.

        That is what was pooled where detection stands apart, else the output of fc7.
        """
        proposals, losses = self.proposals(view.batch, view.features, boxes)
        regions = self.sampler(proposals, boxes, ids)
        seen = self.pool(view, regions.boxes)
        if not self.detection_apart:
            seen = self._read(seen)
        logits, deltas = self._predict(seen)
        losses |= detection_losses(logits, deltas, regions)
        weight = self.settings.detection_weight
        return {name: loss * weight for name, loss in losses.items()}, regions, seen

    def pool(self, view: View, boxes: list[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Regions (R, C, h, w) of `boxes` in pixels of the batch, pooled as asked."""
        if self.roi_pooling == "align":
            return super().pool(view, boxes, size)
        pooled: Tensor = roi_pool(
            view.features.float(), boxes, size or self.roi_size, 1.0 / self.stride
        )
        return pooled

    def _read(self, pooled: Tensor) -> Tensor:
        """The output (R, W) of fc7 for what was pooled."""
        averaged = functional.adaptive_avg_pool2d(self.head(pooled), self.embedding_grid)
        read: Tensor = self.fc6_7(averaged.flatten(1))
        return read

    def _predict(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and box deltas of what was pooled, or of the output of fc7."""
        logits, deltas = self.box_predictor(seen if self.detection_apart else seen[..., None, None])
        return logits, deltas

    def _embedding(self, read: Tensor) -> Tensor:
        """Unit embeddings (R, D) of the output of fc7."""
        return functional.normalize(self.embedder(read).float(), dim=1)

    def embed_regions(self, view: View, boxes: list[Tensor]) -> Tensor:
        """Unit embeddings (R, D) of `boxes` in pixels of the batch."""
        return self._embedding(self._read(self.pool(view, boxes)))

    def crop_loss(self, embeddings: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """The losses of eq. 6 on true boxes, each as if it were from a picture of its own."""
        losses: dict[str, Tensor] = self.reid(
            embeddings, ids, torch.arange(len(ids), device=ids.device)
        )
        return losses

    def remember(self, embeddings: Tensor, ids: Tensor) -> None:
        """Fills the dictionary and the class centers, so that the next stage starts with them."""
        self.reid.remember(embeddings, ids)

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Everyone in each picture, boxes in the picture's pixels, by descending score."""
        view = self.look(images)
        proposals, _ = self.proposals(view.batch, view.features)
        counts = [len(p) for p in proposals]
        seen = self.pool(view, proposals)
        if not self.detection_apart:
            seen = self._read(seen)
        logits, deltas = self._predict(seen)
        scores = logits.float().softmax(dim=1)[:, 1].split(counts)
        decoded = decode_boxes(self.sampler.coder, deltas, proposals, view.batch.image_sizes)
        kept = self.select(decoded, scores)
        boxes = [b[k] for b, k in zip(decoded, kept, strict=True)]
        if self.embed_boxes:
            embeddings = self.embed_regions(view, boxes)
        else:
            read = torch.cat([s[k] for s, k in zip(seen.split(counts), kept, strict=True)])
            embeddings = self._embedding(self._read(read) if self.detection_apart else read)
        sure = [s[k] for s, k in zip(scores, kept, strict=True)]
        return self.finish(view, boxes, sure, embeddings.split([len(k) for k in kept]))


def fully_connected(width: int, hidden: int) -> tuple[nn.Sequential, int]:
    """Two layers of `hidden` with ReLU on inputs of `width`, none if 0; and their output's width.

    fc6 and fc7 of VGG16, without its dropout: a loss may not depend on the training mode.
    """
    if not hidden:
        return nn.Sequential(), width
    layers = (nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
    return nn.Sequential(*layers), hidden


def picture_of_each(boxes: Sequence[Tensor]) -> Tensor:
    """(R,) the place in the batch that each row of the pictures' `boxes` (R_i, 4) belongs to."""
    counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    return torch.arange(len(boxes), device=counts.device).repeat_interleave(counts)
