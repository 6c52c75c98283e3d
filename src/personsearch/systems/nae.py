"""NAE: norm-aware embedding for efficient person search (Chen et al. 2020).

As OIM, but one vector serves two tasks: its length says whether a region shows a person, its
direction says whom. The vector joins what is pooled from the shared map and what the head makes of
it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import RegionSampler, SampledRegions, decode_boxes, grid
from personsearch.errors import ModelError
from personsearch.losses.norm_aware import NormAware, RowNorm, person_loss
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.base import Target
from personsearch.systems.regions import RegionSettings, RegionSystem, View
from personsearch.types import Detections

PUBLISHED = RegionSettings(min_size=900, max_size=1500)
"""The region settings that NAE was published with."""


class NormAwareHead(nn.Module):
    """A pooled region as a unit embedding and a person logit.

    Args:
        shallow, deep: channels of the pooled region and of the head's output.
        embedding_dim: D, half from each.
        cells: rows and columns that both are max-pooled to; (1, 1) as published.

    Raises:
        ModelError: an odd `embedding_dim`.
    """

    def __init__(self, shallow: int, deep: int, embedding_dim: int, cells: tuple[int, int]) -> None:
        super().__init__()
        if embedding_dim % 2:
            raise ModelError(
                f"embedding_dim is {embedding_dim}, expected an even number: half comes from the "
                "shared map, half from the head"
            )
        self.cells = cells
        self.projections = nn.ModuleList(
            normalised_linear(channels * math.prod(cells), embedding_dim // 2)
            for channels in (shallow, deep)
        )
        self.norm_aware = NormAware()

    def forward(self, pooled: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Unit embeddings (R, D) and person logits (R,) of maps (R, C, h, w), (R, C', h', w')."""
        halves = [
            projection(functional.adaptive_max_pool2d(seen, self.cells).flatten(1))
            for projection, seen in zip(self.projections, (pooled, deep), strict=True)
        ]
        split: tuple[Tensor, Tensor] = self.norm_aware(torch.cat(halves, dim=1))
        return split


class BoxRegressor(nn.Module):
    """Box deltas of a region: from the head's output, or by layers of its own on what is pooled.

    Args:
        shallow, deep: channels of the pooled region and of the head's output.
        settings: `detection_hidden` and `detection_grid` of them.
        normalised: whether batch normalisation follows the last layer.
    """

    def __init__(self, shallow: int, deep: int, settings: RegionSettings, normalised: bool) -> None:
        super().__init__()
        hidden, cells = settings.detection_hidden, grid("detection_grid", settings.detection_grid)
        self.apart = hidden > 0
        width = (shallow if self.apart else deep) * math.prod(cells)
        layers: list[nn.Module] = []
        if self.apart:
            layers = [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        last = normalised_linear(hidden or width, 4)
        pool = nn.AdaptiveAvgPool2d(cells) if self.apart else nn.AdaptiveMaxPool2d(cells)
        self.layers = nn.Sequential(pool, nn.Flatten(), *layers, last if normalised else last[0])

    def forward(self, pooled: Tensor, deep: Tensor) -> Tensor:
        """Deltas (R, 4)."""
        deltas: Tensor = self.layers(pooled if self.apart else deep)
        return deltas


class NAE(RegionSystem):
    """Faster R-CNN whose person classifier is the length of the embedding.

    Args:
        backbone: the cut network; ResNet-50 as published.
        num_ids: labelled identities in the training set.

        embedding_dim: length of an embedding, half from the shared map, half from the head.
        queue_size: unlabelled people that are remembered; 5,000 for CUHK-SYSU, 500 for PRW.
        oim_momentum: the share of the old value in an update of the lookup table.
        oim_temperature: of the softmax over what is remembered.
        oim_weight: of the OIM loss in the sum.
        oim_min_iou: regions nearer than this to a person's box are told apart in training.
        embedding_grid: rows and columns that the maps are max-pooled to; (1, 1) as published.
        background_iou: a region nearer than this to a person, but not near enough to show it, is
            in no loss. The published program has 0.1; at 0.5 every region is one or the other.
        box_weight: of the box regression loss.
        box_beta: where smooth L1 turns from square to linear.
        box_norm: batch normalisation of the box deltas.
        embed_boxes: embed the final boxes instead of the proposals that they come from.
        confidence_weighted: multiply similarity by the gallery detection's score, as published.
        regions: pictures, proposals, regions and detections; `detection_hidden` stands for the
            box regressor alone.

    Raises:
        ModelError: an odd `embedding_dim`, or `background_iou` outside of 0..0.5.
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
        background_iou: float = 0.1,
        box_weight: float = 10.0,
        box_beta: float = 1.0,
        box_norm: bool = True,
        embed_boxes: bool = False,
        confidence_weighted: bool = True,
        regions: RegionSettings = PUBLISHED,
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.oim_weight, self.oim_min_iou = oim_weight, oim_min_iou
        self.box_weight, self.box_beta = box_weight, box_beta
        self.embed_boxes, self.confidence_weighted = embed_boxes, confidence_weighted
        if not 0.0 < background_iou <= 0.5:
            raise ModelError(
                f"background_iou is {background_iou}, expected above 0 and at most 0.5, where a "
                "region begins to show a person"
            )
        self.sampler = RegionSampler(
            regions.rois_per_image, regions.roi_positive_fraction, negative_iou=background_iou
        )
        shallow, deep = backbone.stem_channels, backbone.head_channels
        self.embedder = NormAwareHead(
            shallow, deep, embedding_dim, grid("embedding_grid", embedding_grid)
        )
        self.regressor = BoxRegressor(shallow, deep, regions, box_norm)
        self.oim = OnlineInstanceMatching(
            num_ids, embedding_dim, queue_size, oim_momentum, oim_temperature
        )

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses ``rpn_objectness``, ``rpn_box``, ``detection``, ``box`` and ``oim``."""
        view = self.look(images)
        boxes, ids = self.scale(view, targets)
        losses, regions, embeddings = self._detection_losses(view, boxes, ids)
        person = regions.foreground & (regions.ious >= self.oim_min_iou)
        losses["oim"] = self.oim(embeddings[person], regions.ids[person]) * self.oim_weight
        return losses

    def detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> dict[str, Tensor]:
        """The four detection losses."""
        return self._detection_losses(view, boxes, ids)[0]

    def _detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> tuple[dict[str, Tensor], SampledRegions, Tensor]:
        proposals, losses = self.proposals(view.batch, view.features, boxes)
        regions = self.sampler(proposals, boxes, ids)
        embeddings, logits, deltas = self._see(view, regions.boxes)
        losses |= {
            "detection": person_loss(logits, regions.foreground),
            "box": box_loss(deltas, regions, self.box_beta) * self.box_weight,
        }
        weight = self.settings.detection_weight
        return {name: loss * weight for name, loss in losses.items()}, regions, embeddings

    def _see(self, view: View, boxes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Unit embeddings (R, D), person logits (R,) and box deltas (R, 4)."""
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
        view = self.look(images)
        proposals, _ = self.proposals(view.batch, view.features)
        embeddings, logits, deltas = self._see(view, proposals)
        counts = [len(p) for p in proposals]
        scores = logits.sigmoid().split(counts)
        decoded = decode_boxes(self.sampler.coder, deltas, proposals, view.batch.image_sizes)
        kept = self.select(decoded, scores)
        boxes = [b[k] for b, k in zip(decoded, kept, strict=True)]
        per_image = (
            self.embed_regions(view, boxes).split([len(k) for k in kept])
            if self.embed_boxes
            else [e[k] for e, k in zip(embeddings.split(counts), kept, strict=True)]
        )
        sure = [s[k] for s, k in zip(scores, kept, strict=True)]
        return self.finish(view, boxes, sure, per_image)


def normalised_linear(channels: int, dim: int) -> nn.Sequential:
    """A linear layer and batch normalisation, both with small random weights, as published."""
    linear, norm = nn.Linear(channels, dim), RowNorm(dim)
    for layer in (linear, norm):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(linear, norm)


def box_loss(deltas: Tensor, regions: SampledRegions, beta: float) -> Tensor:
    """Smooth L1 on the deltas (R, 4) of people, over R: background counts in the average."""
    person = regions.foreground
    total = functional.smooth_l1_loss(
        deltas.float()[person], regions.deltas[person], beta=beta, reduction="sum"
    )
    return total / max(len(person), 1)
