"""NAE: norm-aware embedding for efficient person search (Chen et al. 2020).

As OIM, but one vector serves two tasks: its length says whether a region shows a person, its
direction says which. The vector joins the pooled region and the head's output.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import SampledRegions, box_loss
from personsearch.errors import ModelError
from personsearch.losses.norm_aware import NormAware, RowNorm, person_loss
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.oim import InstanceMatchingSystem
from personsearch.systems.regions import RegionFeatures, RegionSettings

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


class NormAwareSystem(InstanceMatchingSystem):
    """The base of NAE and SeqNet: a norm-aware head and a box regressor.

    Subclasses set the weights, call `_add_heads` and set `oim`.
    """

    def _add_heads(self, backbone: Backbone, box_norm: bool) -> None:
        shallow, deep = backbone.stem_channels, backbone.head_channels
        self.embedder = NormAwareHead(shallow, deep, self.embedding_dim, self.cells)
        last = normalised_linear(backbone.detection_channels, 4)
        self.regressor = nn.Sequential(
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), last if box_norm else last[0]
        )

    def predict(self, features: RegionFeatures) -> tuple[Tensor, Tensor]:
        _, logits = features.joint(self.embedder)
        return logits, self.regressor(features.detection)

    def person_probability(self, logits: Tensor) -> Tensor:
        """Return the sigmoid of the logits (R,), which are lengths on a learned scale."""
        return logits.sigmoid()

    def region_losses(
        self, logits: Tensor, deltas: Tensor, regions: SampledRegions
    ) -> dict[str, Tensor]:
        """Return the losses ``detection`` and ``box``."""
        return {
            "detection": person_loss(logits, regions.foreground) * regions.share,
            "box": box_loss(deltas, regions, self.box_beta) * self.box_weight,
        }

    def embed_features(self, features: RegionFeatures) -> Tensor:
        embeddings: Tensor
        embeddings, _ = features.joint(self.embedder)
        return embeddings


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
        adaptive: bool = False,
        # regions below this IoU are background; those between it and 0.5 are in no loss. The
        # published program has 0.1; at 0.5 every region is in a loss.
        background_iou: float = 0.1,
        box_weight: float = 10.0,  # of the box regression loss
        box_beta: float = 1.0,  # where smooth L1 turns from square to linear
        box_norm: bool = True,  # batch normalisation of the box deltas
        embed_boxes: bool = False,
        confidence_weighted: bool = True,
        regions: RegionSettings = PUBLISHED,
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions, background_iou)
        self.oim_weight, self.oim_min_iou, self.adaptive = oim_weight, oim_min_iou, adaptive
        self.box_weight, self.box_beta = box_weight, box_beta
        self.embed_boxes, self.confidence_weighted = embed_boxes, confidence_weighted
        self._add_heads(backbone, box_norm)
        self.oim = OnlineInstanceMatching(
            num_ids, embedding_dim, queue_size, oim_momentum, oim_temperature
        )


def normalised_linear(channels: int, dim: int) -> nn.Sequential:
    """Return a linear layer and batch normalisation, with small random weights as published."""
    linear, norm = nn.Linear(channels, dim), RowNorm(dim)
    for layer in (linear, norm):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(linear, norm)
