"""Systems on regions of one shared map: the steps that they share.

picture -> transform -> backbone -> proposals -> RoI features -> scores and boxes -> selection ->
embeddings -> postprocessing, the order of torchvision's `GeneralizedRCNN.forward`. `forward` and
`detect` go through these steps; each step is a method, and a system overrides those that its paper
changes.
"""

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    PictureTransform,
    Pooling,
    ProposalNetwork,
    Proposals,
    RegionPooling,
    RegionSampler,
    SampledRegions,
    decode_boxes,
    detection_losses,
    grid,
    select_detections,
    split_like,
)
from personsearch.detectors.region_head import run_shared, shares_work
from personsearch.distributed import dropout
from personsearch.systems.base import PersonSearchModel, Target, split_targets
from personsearch.types import Detections


@dataclass(frozen=True)
class RegionSettings:
    """Pictures, proposals, regions and detections of a system; each field is a recipe key."""

    min_size: int = 600  # shorter side that pictures are scaled to
    max_size: int = 1000  # largest longer side
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512)  # in scaled pixels
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0)  # height to width
    rpn_pre_nms_top_n_train: int = 12000  # proposals of a picture that suppression chooses from
    rpn_post_nms_top_n_train: int = 2000  # proposals that it keeps
    rpn_post_nms_top_n_test: int = 300  # the same at search time
    rpn_batch_size_per_image: int = 256  # anchors in the proposal losses
    roi_size: Sequence[int] = (14, 14)  # height and width of a pooled region
    sampling_ratio: int = 2  # points a side that RoIAlign averages in each of its cells
    roi_aligned: bool = False  # whether RoIAlign shifts regions by half a cell, as of Detectron2
    sample_true_boxes: bool = True  # whether true boxes are sampled along with the proposals
    rois_per_image: int = 128  # regions in the losses
    roi_positive_fraction: float = 0.5  # the largest share of them that shows a person
    score_threshold: float = 0.01  # detections below are dropped
    nms_iou: float = 0.4  # above it the weaker of two is dropped
    max_detections: int = 300  # of a picture


@dataclass(frozen=True)
class FeatureMaps:
    """Pictures as given, as one scaled, normalised and padded batch, and their shared map."""

    images: list[Tensor]
    batch: ImageList
    features: Tensor  # (B, C, h, w)


class RegionFeatures:
    """Features of R regions, each computed when first read; ``features[rows]`` selects regions."""

    def __init__(
        self,
        features: Tensor,  # the shared map (B, C, H, W)
        regions: RegionPooling,
        head: nn.Sequential,
        detection_head: nn.Module | None = None,
        dropout: float = 0.0,  # rate after each ReLU of the head: fc6 and fc7 of VGG16
    ) -> None:
        self.dropout = dropout
        self._map, self._regions = features, regions
        self._head, self._detection_head = head, detection_head
        self._joint: Any = None

    @cached_property
    def pooled(self) -> Tensor:
        """The pooled regions (R, C, h, w)."""
        return self._regions(self._map)

    @cached_property
    def deep(self) -> Tensor:
        """The head's output (R, C', h', w')."""
        if not self.dropout:
            if shares_work(self._head, self._map, self._regions):
                return run_shared(self._head, self._map, self._regions)
            output: Tensor = self._head(self.pooled)
            return output
        x = self.pooled
        for layer in self._head:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                x = dropout(x, self.dropout)
        return x

    @cached_property
    def detection(self) -> Tensor:
        """What detection reads: the head's output, or that of its own head (R, C'', h'', w'')."""
        if self._detection_head is None:
            return self.deep
        output: Tensor = self._detection_head(self.pooled)
        return output

    def joint(self, module: nn.Module) -> Any:
        """What `module` makes of `pooled` and `deep`; it runs once."""
        if self._joint is None:
            self._joint = module(self.pooled, self.deep)
        return self._joint

    def __len__(self) -> int:
        return len(self._regions)

    def __getitem__(self, rows: Tensor) -> Self:
        if self.dropout:
            _ = self.deep  # computed for all rows: their noise is that of all processes
        chosen = copy(self)
        computed = ("pooled", "deep", "detection", "_joint")
        vars(chosen).update((k, _rows(v, rows)) for k, v in vars(self).items() if k in computed)
        chosen._regions = self._regions[rows]
        return chosen


def _rows(value: Any, rows: Tensor) -> Any:
    if isinstance(value, tuple):
        return tuple(_rows(part, rows) for part in value)
    return value[rows] if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class DetectionStep:
    """The detection losses of a training step, and what the identity losses may need besides."""

    maps: FeatureMaps
    boxes: list[Tensor]  # true boxes (N_i, 4) of each picture, in pixels of the batch
    ids: list[Tensor]  # (N_i,) of each picture
    losses: dict[str, Tensor]  # the detection losses, by name
    regions: SampledRegions
    features: RegionFeatures  # of these regions, as are `logits` and `deltas` of `predict`
    logits: Tensor
    deltas: Tensor


class RegionSystem(PersonSearchModel):
    """The base of systems on one shared map with proposals.

    Its attributes `stem` and `head` are the backbone's; `detection_head` is None where detection
    reads the head's output, as in published systems.
    """

    box_predictor: BoxPredictor  # of systems that do not override `predict`
    roi_pooling: Pooling = "align"
    box_beta: float = 1 / 9  # where smooth L1 on box deltas turns from square to linear
    box_weight: float = 1.0  # of the box regression loss
    embed_boxes: bool = False  # embed the final boxes, not the regions that they are regressed from
    # of VGG16's fc6 and fc7 where losses are computed, whatever the training mode
    dropout: float = 0.0
    # As in py-faster-rcnn (Ren et al. 2015), anchors that cross the border have no part in the
    # proposal losses, and proposals with a side below one cell of the map are dropped.
    py_faster_rcnn: bool = False

    def __init__(
        self,
        backbone: Backbone,  # the cut network
        num_ids: int,  # labelled identities in the training set
        embedding_dim: int,  # D, the length of an embedding
        settings: RegionSettings,  # pictures, proposals, regions and detections
        # regions below this IoU are background; those between it and 0.5 are in no loss
        background_iou: float = 0.5,
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.settings = settings
        self.roi_size = grid("roi_size", settings.roi_size)
        self.cells = backbone.cells
        self.transform = PictureTransform(settings.min_size, settings.max_size)
        self.stem, self.head, self.stride = backbone.stem, backbone.head, backbone.stride
        self.proposals = self.build_proposals(backbone)
        self.detection_head = backbone.own_detection_head
        self.sampler = RegionSampler(
            settings.rois_per_image,
            settings.roi_positive_fraction,
            bg_iou_threshold=background_iou,
            add_true_boxes=settings.sample_true_boxes,
        )

    def build_proposals(self, backbone: Backbone) -> ProposalNetwork:
        """Return a new proposal network."""
        settings = self.settings
        return ProposalNetwork(
            backbone.stem_channels,
            settings.anchor_sizes,
            settings.aspect_ratios,
            settings.rpn_post_nms_top_n_train,
            settings.rpn_post_nms_top_n_test,
            settings.rpn_batch_size_per_image,
            pre_nms_top_n_train=settings.rpn_pre_nms_top_n_train,
            inside=self.py_faster_rcnn,
            min_size=float(backbone.stride) if self.py_faster_rcnn else 1e-3,
        )

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the detection losses and the identity losses of whole pictures."""
        maps = self.extract_features(images)
        boxes, ids = self.scale(maps, targets)
        step = self.detection_step(maps, boxes, ids)
        return step.losses | self.identity_losses(step)

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Return the people in each picture, in its own pixels, by descending score."""
        maps = self.extract_features(images)
        proposals = self.propose(maps)
        features = self.roi_features(maps, proposals.boxes)
        logits, deltas = self.predict(features)
        scores = self.score(features, logits, proposals)
        decoded = decode_boxes(self.sampler.coder, deltas, proposals.boxes, maps.batch.image_sizes)
        kept = self.select(decoded, scores)
        boxes = [b[k] for b, k in zip(decoded, kept, strict=True)]
        if self.embed_boxes:
            embeddings = self.embed_regions(maps, boxes)
        else:
            starts = accumulate((len(b) for b in decoded[:-1]), initial=0)
            rows = torch.cat([k + start for k, start in zip(kept, starts, strict=True)])
            embeddings = self.embed_features(features[rows])
        kept_scores = [s[k] for s, k in zip(scores, kept, strict=True)]
        return self.postprocess(maps, boxes, kept_scores, embeddings)

    @torch.no_grad()
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Return the embeddings (N_i, D) of given boxes (N_i, 4) in each picture."""
        maps = self.extract_features(images)
        scaled = self.transform.scale(boxes, images, maps.batch)
        return split_like(self.embed_regions(maps, scaled), boxes)

    def detection_step(
        self, maps: FeatureMaps, boxes: list[Tensor], ids: list[Tensor]
    ) -> DetectionStep:
        """Propose and sample regions given true boxes, and compute the detection losses."""
        proposals = self.propose(maps, boxes, ids)
        regions = self.sampler(proposals.boxes, boxes, ids)
        features = self.roi_features(maps, regions.boxes, dropout=self.dropout)
        logits, deltas = self.predict(features)
        losses = proposals.losses | self.region_losses(logits, deltas, regions)
        return DetectionStep(maps, boxes, ids, losses, regions, features, logits, deltas)

    def extract_features(self, images: Sequence[Tensor]) -> FeatureMaps:
        """Scale and join pictures, and run the stem."""
        batch = self.transform.to_batch(images)
        return FeatureMaps(list(images), batch, self.stem(batch.tensors))

    def scale(
        self, maps: FeatureMaps, targets: Sequence[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the true boxes of each picture in pixels of the batch, and the ids."""
        boxes, ids = split_targets(targets)
        return self.transform.scale(boxes, maps.images, maps.batch), ids

    def propose(
        self,
        maps: FeatureMaps,
        boxes: list[Tensor] | None = None,
        ids: list[Tensor] | None = None,
    ) -> Proposals:
        """Propose regions; with losses if given the true `boxes` and `ids`."""
        proposals: Proposals = self.proposals(maps.batch, maps.features, boxes)
        return proposals

    def pool(
        self,
        maps: FeatureMaps,
        boxes: list[Tensor],
        size: tuple[int, int] | None = None,
        pooling: Pooling | None = None,
    ) -> Tensor:
        """Pool `boxes`, in pixels of the batch, to (R, C, h, w).

        `size` and `pooling` are `roi_size` and `roi_pooling` if not given.
        """
        return self.regions(boxes, size, pooling)(maps.features)

    def regions(
        self,
        boxes: list[Tensor],
        size: tuple[int, int] | None = None,
        pooling: Pooling | None = None,
    ) -> RegionPooling:
        """Return what pools `boxes` from a shared map; see `pool`."""
        return RegionPooling(
            boxes,
            size or self.roi_size,
            self.stride,
            pooling or self.roi_pooling,
            self.settings.sampling_ratio,
            self.settings.roi_aligned,
        )

    def roi_features(
        self, maps: FeatureMaps, boxes: list[Tensor], dropout: float = 0.0
    ) -> RegionFeatures:
        """Return what `predict` and `embed_features` read of `boxes` in pixels of the batch."""
        return RegionFeatures(
            maps.features, self.regions(boxes), self.head, self.detection_head, dropout
        )

    def average(self, features: RegionFeatures) -> Tensor:
        """Return the head's output averaged over `cells` (R, C' x cells); fc7 of VGG16 as it is."""
        return functional.adaptive_avg_pool2d(features.deep, self.cells).flatten(1)

    def predict(self, features: RegionFeatures) -> tuple[Tensor, Tensor]:
        """Return person logits, (R, 2) with background first, and box deltas (R, 4)."""
        predicted: tuple[Tensor, Tensor] = self.box_predictor(features.detection)
        return predicted

    def region_losses(
        self, logits: Tensor, deltas: Tensor, regions: SampledRegions
    ) -> dict[str, Tensor]:
        """Return the losses ``detection`` and ``box`` of the sampled regions."""
        losses = detection_losses(logits, deltas, regions, self.box_beta)
        return losses | {"box": losses["box"] * self.box_weight}

    @abstractmethod
    def identity_losses(self, step: DetectionStep) -> dict[str, Tensor]:
        """Return the losses that tell people apart, on the regions of a training step."""

    def person_probability(self, logits: Tensor) -> Tensor:
        """Return the probability (R,) that a region shows a person."""
        return logits.float().softmax(dim=1)[:, 1]

    def score(
        self, features: RegionFeatures, logits: Tensor, proposals: Proposals
    ) -> Sequence[Tensor]:
        """Return the score (R_i,) of each region that detections are ranked by."""
        return split_like(self.person_probability(logits), proposals.boxes)

    def select(
        self, boxes: Sequence[Tensor], scores: Sequence[Tensor], nms_iou: float | None = None
    ) -> list[Tensor]:
        """Return the rows to keep of each picture's `boxes` (R_i, 4), best first."""
        least, most = self.settings.score_threshold, self.settings.max_detections
        iou = self.settings.nms_iou if nms_iou is None else nms_iou
        return [
            select_detections(b, s, least, iou, most) for b, s in zip(boxes, scores, strict=True)
        ]

    @abstractmethod
    def embed_features(self, features: RegionFeatures) -> Tensor:
        """Return embeddings (R, D) of regions, of unit length unless `metric` is Euclidean.

        Gradients reach the network.
        """

    def embed_regions(self, maps: FeatureMaps, boxes: list[Tensor]) -> Tensor:
        """Return embeddings (R, D) of `boxes` in pixels of the batch."""
        return self.embed_features(self.roi_features(maps, boxes))

    def postprocess(
        self,
        maps: FeatureMaps,
        boxes: Sequence[Tensor],
        scores: Sequence[Tensor],
        embeddings: Tensor,
    ) -> list[Detections]:
        """Return detections in the pictures' own pixels, of boxes in pixels of the batch."""
        unscaled = self.transform.unscale(boxes, maps.images, maps.batch)
        rows = split_like(embeddings, boxes)
        return [Detections(b, s, e) for b, s, e in zip(unscaled, scores, rows, strict=True)]

    def embed_people(self, step: DetectionStep, min_iou: float) -> tuple[Tensor, Tensor]:
        """Embed the sampled regions with at least this IoU with a person's box.

        Returns:
            Embeddings (K, D), and the mask (R,) of these regions.
        """
        person = step.regions.foreground & (step.regions.ious >= min_iou)
        features = step.features[person]
        if not person.any():
            return step.logits.new_zeros((0, self.embedding_dim)), person
        return self.embed_features(features), person
