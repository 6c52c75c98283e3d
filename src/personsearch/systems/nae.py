"""NAE: norm-aware embedding for efficient person search (Chen et al. 2020).

As OIM, but one vector serves two tasks: its length says whether a region shows a person, its
direction says which. The vector joins the pooled region and the head's output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    Proposals,
    RegionSampler,
    SampledRegions,
    box_loss,
    fully_connected,
    grid,
    split_like,
)
from personsearch.errors import ModelError
from personsearch.losses.norm_aware import NormAware, RowNorm, person_loss
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.regions import (
    ALL,
    DetectionStep,
    FeatureMaps,
    RegionSettings,
    RegionSystem,
    Rows,
)

PUBLISHED = RegionSettings(min_size=900, max_size=1500)
"""The region settings that NAE was published with."""


class NormAwareHead(nn.Module):
    """A unit embedding and a person logit of a region.

    Pooled region and head's output are max-pooled to `cells`, and give half of the embedding each.

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
        """Return embeddings (R, D) and logits (R,) of maps (R, C, h, w) and (R, C', h', w')."""
        halves = [
            projection(functional.adaptive_max_pool2d(x, self.cells).flatten(1))
            for projection, x in zip(self.projections, (pooled, deep), strict=True)
        ]
        split: tuple[Tensor, Tensor] = self.norm_aware(torch.cat(halves, dim=1))
        return split


class BoxRegressor(nn.Module):
    """Box deltas of a region: from the head's output, or by layers of its own on what is pooled."""

    def __init__(self, shallow: int, deep: int, settings: RegionSettings, normalised: bool) -> None:
        super().__init__()
        cells = grid("detection_grid", settings.detection_grid)
        self.apart = settings.detection_hidden > 0
        width = (shallow if self.apart else deep) * math.prod(cells)
        layers, width = fully_connected(width, settings.detection_hidden)
        last = normalised_linear(width, 4)
        pool = nn.AdaptiveAvgPool2d(cells) if self.apart else nn.AdaptiveMaxPool2d(cells)
        self.layers = nn.Sequential(pool, nn.Flatten(), *layers, last if normalised else last[0])

    def forward(self, pooled: Tensor, deep: Tensor) -> Tensor:
        """Return deltas (R, 4)."""
        deltas: Tensor = self.layers(pooled if self.apart else deep)
        return deltas


@dataclass(frozen=True)
class NormAwareFeatures:
    """What the norm-aware head makes of R regions."""

    pooled: Tensor  # (R, C, h, w)
    deep: Tensor  # (R, C', h', w'), the head's output
    embeddings: Tensor  # (R, D), unit length
    logits: Tensor  # (R,), that a region shows a person


class NormAwareSystem(RegionSystem[NormAwareFeatures]):
    """The base of NAE and SeqNet: a norm-aware head, a box regressor and an OIM loss.

    Subclasses set the weights and call `_add_heads`.
    """

    oim_weight: float
    oim_min_iou: float
    box_weight: float
    box_beta: float

    def _add_heads(
        self,
        backbone: Backbone,
        embedding_grid: Sequence[int],
        box_norm: bool,
        oim: OnlineInstanceMatching,
    ) -> None:
        shallow, deep = backbone.stem_channels, backbone.head_channels
        cells = grid("embedding_grid", embedding_grid)
        self.embedder = NormAwareHead(shallow, deep, self.embedding_dim, cells)
        self.regressor = BoxRegressor(shallow, deep, self.settings, box_norm)
        self.oim = oim

    def roi_features(self, maps: FeatureMaps, boxes: list[Tensor]) -> NormAwareFeatures:
        pooled = self.pool(maps, boxes)
        deep = self.head(pooled)
        return NormAwareFeatures(pooled, deep, *self.embedder(pooled, deep))

    def predict(self, features: NormAwareFeatures) -> tuple[Tensor, Tensor]:
        return features.logits, self.regressor(features.pooled, features.deep)

    def score(
        self, features: NormAwareFeatures, logits: Tensor, proposals: Proposals
    ) -> Sequence[Tensor]:
        """Return the sigmoid of the logits of each picture's regions."""
        return split_like(logits.sigmoid(), proposals.boxes)

    def region_losses(
        self, logits: Tensor, deltas: Tensor, regions: SampledRegions
    ) -> dict[str, Tensor]:
        """Return the losses ``detection`` and ``box``."""
        return {
            "detection": person_loss(logits, regions.foreground),
            "box": box_loss(deltas, regions, self.box_beta) * self.box_weight,
        }

    def embed_features(self, features: NormAwareFeatures, rows: Rows = ALL) -> Tensor:
        return features.embeddings[rows]

    def identity_losses(self, step: DetectionStep[NormAwareFeatures]) -> dict[str, Tensor]:
        """Return the loss ``oim`` of people's regions."""
        regions = step.regions
        person = regions.foreground & (regions.ious >= self.oim_min_iou)
        return self.crop_loss(step.features.embeddings[person], regions.ids[person])

    def crop_loss(self, embeddings: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """Return the loss ``oim`` of embeddings (R, D)."""
        return {"oim": self.oim(embeddings, ids) * self.oim_weight}

    def update_memory(self, embeddings: Tensor, ids: Tensor) -> None:
        self.oim.update_memory(embeddings, ids)


class NAE(NormAwareSystem):
    """Faster R-CNN whose person classifier is the length of the embedding.

    Arguments without a comment are those of `OIM`.

    Raises:
        ModelError: an odd `embedding_dim`, or `background_iou` outside of 0..0.5.
    """

    def __init__(
        self,
        backbone: Backbone,  # the cut network; ResNet-50 as published
        num_ids: int,
        *,
        embedding_dim: int = 256,  # half from the shared map, half from the head
        queue_size: int = 5000,
        oim_momentum: float = 0.5,
        oim_temperature: float = 1 / 30,
        oim_weight: float = 1.0,
        oim_min_iou: float = 0.5,
        embedding_grid: Sequence[int] = (1, 1),  # max-pooling to rows, columns; published: (1, 1)
        # regions below this IoU are background; those between it and 0.5 are in no loss. The
        # published program has 0.1; at 0.5 every region is in a loss.
        background_iou: float = 0.1,
        box_weight: float = 10.0,  # of the box regression loss
        box_beta: float = 1.0,  # where smooth L1 turns from square to linear
        box_norm: bool = True,  # batch normalisation of the box deltas
        embed_boxes: bool = False,
        confidence_weighted: bool = True,
        regions: RegionSettings = PUBLISHED,  # `detection_hidden` is for the box regressor alone
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.oim_weight, self.oim_min_iou = oim_weight, oim_min_iou
        self.box_weight, self.box_beta = box_weight, box_beta
        self.embed_boxes, self.confidence_weighted = embed_boxes, confidence_weighted
        if not 0.0 < background_iou <= 0.5:
            raise ModelError(
                f"background_iou is {background_iou}, expected above 0 and at most 0.5, from where "
                "on a region shows a person"
            )
        self.sampler = RegionSampler(
            regions.rois_per_image, regions.roi_positive_fraction, bg_iou_threshold=background_iou
        )
        oim = OnlineInstanceMatching(
            num_ids, embedding_dim, queue_size, oim_momentum, oim_temperature
        )
        self._add_heads(backbone, embedding_grid, box_norm, oim)


def normalised_linear(channels: int, dim: int) -> nn.Sequential:
    """Return a linear layer and batch normalisation, with small random weights as published."""
    linear, norm = nn.Linear(channels, dim), RowNorm(dim)
    for layer in (linear, norm):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(linear, norm)
