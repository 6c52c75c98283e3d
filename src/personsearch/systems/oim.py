"""OIM: joint detection and identification feature learning for person search (Xiao et al. 2017).

picture -> stem -> shared map -> proposals -> RoIAlign -> head -> average -> three branches:
person or not, box, and a unit embedding trained by online instance matching.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    PictureTransform,
    ProposalNetwork,
    RegionSampler,
    SampledRegions,
    decode_boxes,
    detection_losses,
    select_detections,
    split_targets,
)
from personsearch.errors import ModelError
from personsearch.losses.cosine_softmax import CosineSoftmax
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections, Target


class OIM(PersonSearchModel):
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
        crop_loss: ``"oim"`` or ``"softmax"``, what tells people apart in the crop stage.
        crop_jitter: how far the sides of the boxes that it embeds are moved at the most, as a part
            of the box's size: the boxes of a detector are never exact.
        crop_detection: whether the crop stage also learns to find the people on its canvases.
        embed_boxes: embed the final boxes instead of the proposals that they come from; queries
            are embedded on their boxes either way.
        confidence_weighted: multiply similarity by the gallery detection's score.

        min_size, max_size: the picture is scaled to this shorter side, within this longer side.
        anchor_sizes, aspect_ratios: anchors in scaled pixels, and their height to width.
        rpn_train_proposals, rpn_test_proposals: proposals kept of a picture.
        rpn_anchors_per_image: anchors in the proposal losses.
        roi_size: height and width of a pooled region.
        roi_sampling: points a side that RoIAlign averages in each of its cells.
        rois_per_image: regions in the losses.
        roi_positive_fraction: the most of them that show a person.
        detection_grid: as `embedding_grid`, for the person classifier and the box regressor.
        detection_hidden: width of two fully connected layers of their own, on the pooled region
            before the head; at 0 they read the head's output, as in the paper.
        detection_weight: of the four detection losses in the sum.
        score_threshold, nms_iou, max_detections: what `detect` keeps.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_ids: int,
        *,
        # embedding
        embedding_dim: int = 256,
        queue_size: int = 5000,
        oim_momentum: float = 0.5,
        oim_temperature: float = 1 / 30,
        oim_weight: float = 1.0,
        oim_min_iou: float = 0.5,
        embedding_grid: Sequence[int] = (1, 1),
        crop_loss: Literal["oim", "softmax"] = "oim",
        crop_jitter: float = 0.08,
        crop_detection: bool = False,
        embed_boxes: bool = False,
        confidence_weighted: bool = False,
        # input
        min_size: int = 600,
        max_size: int = 1000,
        # proposals
        anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        rpn_train_proposals: int = 2000,
        rpn_test_proposals: int = 300,
        rpn_anchors_per_image: int = 256,
        # regions
        roi_size: Sequence[int] = (14, 14),
        roi_sampling: int = 2,
        rois_per_image: int = 128,
        roi_positive_fraction: float = 0.5,
        detection_grid: Sequence[int] = (1, 1),
        detection_hidden: int = 0,
        detection_weight: float = 1.0,
        # detections
        score_threshold: float = 0.01,
        nms_iou: float = 0.4,
        max_detections: int = 300,
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.confidence_weighted = confidence_weighted
        self.embed_boxes, self.oim_min_iou = embed_boxes, oim_min_iou
        self.oim_weight, self.detection_weight = oim_weight, detection_weight
        self.roi_size = _pair("roi_size", roi_size)
        self.roi_sampling = roi_sampling
        self.embedding_grid = _pair("embedding_grid", embedding_grid)
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        self.max_detections = max_detections

        self.transform = PictureTransform(min_size, max_size, IMAGENET_MEAN, IMAGENET_STD)
        self.stem, self.head, self.stride = backbone.stem, backbone.head, backbone.stride
        self.proposals = ProposalNetwork(
            backbone.stem_channels,
            anchor_sizes,
            aspect_ratios,
            rpn_train_proposals,
            rpn_test_proposals,
            rpn_anchors_per_image,
        )
        self.sampler = RegionSampler(rois_per_image, roi_positive_fraction)
        self.detection_apart = detection_hidden > 0
        self.box_predictor = BoxPredictor(
            backbone.stem_channels if self.detection_apart else backbone.head_channels,
            _pair("detection_grid", detection_grid),
            detection_hidden,
        )
        self.embedder = nn.Linear(
            backbone.head_channels * math.prod(self.embedding_grid), embedding_dim
        )
        self.oim = OnlineInstanceMatching(
            num_ids, embedding_dim, queue_size, oim_momentum, oim_temperature
        )
        self.crop_jitter, self.crop_detection = crop_jitter, crop_detection
        self.softmax = CosineSoftmax(num_ids, embedding_dim) if crop_loss == "softmax" else None

    def _pool(self, features: Tensor, boxes: list[Tensor]) -> Tensor:
        """RoIAlign of each box (R, C, h, w)."""
        # RoIAlign has no bfloat16 kernel on every device.
        pooled: Tensor = roi_align(
            features.float(),
            boxes,
            self.roi_size,
            1.0 / self.stride,
            self.roi_sampling,
            aligned=True,
        )
        return pooled

    def _embedding(self, seen: Tensor) -> Tensor:
        """Unit embeddings (R, D) of what the head saw (R, C', h', w')."""
        averaged = functional.adaptive_avg_pool2d(seen, self.embedding_grid).flatten(1)
        return functional.normalize(self.embedder(averaged).float(), dim=1)

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses ``rpn_objectness``, ``rpn_box``, ``detection``, ``box`` and ``oim``."""
        batch = self.transform.to_batch(images)
        features = self.stem(batch.tensors)
        boxes, ids = split_targets(targets)
        boxes = self.transform.scale(boxes, images, batch)
        losses, regions, seen = self._detection_losses(batch, features, boxes, ids)
        person = regions.foreground & (regions.ious >= self.oim_min_iou)
        if not person.any():
            embeddings = seen.new_zeros((0, self.embedding_dim))
        elif self.detection_apart:
            embeddings = self._embedding(self.head(seen[person]))
        else:
            embeddings = self._embedding(seen[person])
        losses["oim"] = self.oim(embeddings, regions.ids[person]) * self.oim_weight
        return losses

    def _detection_losses(
        self, batch: ImageList, features: Tensor, boxes: list[Tensor], ids: list[Tensor]
    ) -> tuple[dict[str, Tensor], SampledRegions, Tensor]:
        """The four detection losses, the regions that they are of, and what was read of these.

        That is what was pooled where detection stands apart, else what the head saw of it.
        """
        proposals, losses = self.proposals(batch, features, boxes)
        regions = self.sampler(proposals, boxes, ids)
        seen = self._pool(features, regions.boxes)
        if not self.detection_apart:
            seen = self.head(seen)
        logits, deltas = self.box_predictor(seen)
        losses |= detection_losses(logits, deltas, regions)
        weighted = {name: loss * self.detection_weight for name, loss in losses.items()}
        return weighted, regions, seen

    def crop_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Loss ``oim`` or ``softmax`` on the true boxes, with the detection losses if wanted.

        The lookup table learns from both, so that the next stage starts with it filled.
        """
        batch = self.transform.to_batch(images)
        features = self.stem(batch.tensors)
        boxes, ids = split_targets(targets)
        boxes = self.transform.scale(boxes, images, batch)
        losses: dict[str, Tensor] = {}
        if self.crop_detection:
            losses, _, _ = self._detection_losses(batch, features, boxes, ids)
        moved = [self._jitter(b) for b in boxes]
        embeddings = self._embedding(self.head(self._pool(features, moved)))
        everyone = torch.cat(ids)
        if self.softmax is None:
            losses["oim"] = self.oim(embeddings, everyone) * self.oim_weight
            return losses
        if self.training:
            self.oim.remember(embeddings, everyone)
        losses["softmax"] = self.softmax(embeddings, everyone)
        return losses

    def _jitter(self, boxes: Tensor) -> Tensor:
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        return boxes + (2.0 * torch.rand_like(boxes) - 1.0) * self.crop_jitter * sides

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Everyone in each picture, boxes in the picture's pixels, by descending score."""
        batch = self.transform.to_batch(images)
        features = self.stem(batch.tensors)
        proposals, _ = self.proposals(batch, features)
        pooled = self._pool(features, proposals)
        seen = None if self.detection_apart else self.head(pooled)
        logits, deltas = self.box_predictor(pooled if seen is None else seen)
        counts = [len(p) for p in proposals]
        scores = logits.float().softmax(dim=1)[:, 1].split(counts)
        decoded = decode_boxes(self.sampler.coder, deltas, proposals, batch.image_sizes)
        kept = [
            select_detections(b, s, self.score_threshold, self.nms_iou, self.max_detections)
            for b, s in zip(decoded, scores, strict=True)
        ]
        boxes = [b[k] for b, k in zip(decoded, kept, strict=True)]
        if self.embed_boxes or seen is None:
            regions = (
                boxes if self.embed_boxes else [p[k] for p, k in zip(proposals, kept, strict=True)]
            )
            embeddings = self._embedding(self.head(self._pool(features, regions)))
        else:
            rows = [k + start for k, start in zip(kept, _starts(counts), strict=True)]
            embeddings = self._embedding(seen[torch.cat(rows)])
        per_image = embeddings.split([len(k) for k in kept])
        unscaled = self.transform.unscale(boxes, images, batch)
        return [
            Detections(b, s[k], e)
            for b, s, k, e in zip(unscaled, scores, kept, per_image, strict=True)
        ]

    @torch.no_grad()
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Embeddings (N_i, D) of given boxes (N_i, 4) in each picture."""
        batch = self.transform.to_batch(images)
        features = self.stem(batch.tensors)
        scaled = self.transform.scale(boxes, images, batch)
        embeddings = self._embedding(self.head(self._pool(features, scaled)))
        return list(embeddings.split([len(b) for b in boxes]))


def _starts(counts: Sequence[int]) -> list[int]:
    """Where each run of rows starts."""
    return [sum(counts[:index]) for index in range(len(counts))]


def _pair(name: str, value: Sequence[int]) -> tuple[int, int]:
    if len(value) != 2 or min(value) < 1:
        raise ModelError(f"{name} is {list(value)}, expected two numbers, rows and columns")
    return int(value[0]), int(value[1])
