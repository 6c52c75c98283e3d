"""Faster R-CNN's parts, thin over torchvision: input, proposals, sampled regions, detections.

The parts do not look at the training mode: losses are computed where targets are given, so that a
system's losses and its detections are two functions, not one that changes its meaning.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import box_iou, clip_boxes_to_image, nms

from personsearch.errors import ModelError
from personsearch.types import UNLABELLED


class PictureTransform(GeneralizedRCNNTransform):
    """Normalises pictures, scales them to fit, and joins them into one batch.

    Args:
        min_size: the shorter side in pixels after scaling.
        max_size: the most the longer side may have.
        mean, std: per channel, of values in 0..1.
        size_divisible: the batch is padded to a multiple of it.
    """

    def __init__(
        self,
        min_size: int,
        max_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        size_divisible: int = 32,
    ) -> None:
        super().__init__(min_size, max_size, list(mean), list(std), size_divisible)

    def torch_choice(self, k: list[int]) -> int:
        """The one size there is; torchvision draws it, in training mode alone."""
        return k[0]

    def to_batch(self, images: Sequence[Tensor]) -> ImageList:
        """Pictures (3, H, W) in 0..1 as one normalised, padded batch."""
        batch, _ = self(list(images))
        return batch

    @staticmethod
    def scale(boxes: Sequence[Tensor], images: Sequence[Tensor], batch: ImageList) -> list[Tensor]:
        """Boxes in the pixels of `images` to boxes in the pixels of `batch`."""
        return [
            resize_boxes(b.float(), tuple(image.shape[-2:]), size)
            for b, image, size in zip(boxes, images, batch.image_sizes, strict=True)
        ]

    @staticmethod
    def unscale(
        boxes: Sequence[Tensor], images: Sequence[Tensor], batch: ImageList
    ) -> list[Tensor]:
        """Boxes in the pixels of `batch` back to boxes in the pixels of `images`."""
        return [
            resize_boxes(b.float(), size, tuple(image.shape[-2:]))
            for b, image, size in zip(boxes, images, batch.image_sizes, strict=True)
        ]


class ProposalNetwork(RegionProposalNetwork):
    """Region proposals on one feature map (Ren et al. 2015), or on the levels of a pyramid.

    Args:
        channels: of the feature map.
        anchor_sizes: square roots of the anchors' areas, in pixels of the network's input.
        pyramid: whether each size is of a level of its own (Lin et al. 2017), the finest first.
        aspect_ratios: height to width.
        train_proposals, test_proposals: how many are kept of an image after suppression; six
            and twenty times as many go into it, as in the published 12,000 and 6,000.
        anchors_per_image, positive_fraction: the sample that the losses see.
        positive_iou, negative_iou: an anchor at least this near is a person, below it is not.
        nms_iou: proposals nearer than this to a better one are suppressed.
    """

    def __init__(
        self,
        channels: int,
        anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (1.0, 2.0, 3.0),
        train_proposals: int = 2000,
        test_proposals: int = 300,
        anchors_per_image: int = 256,
        positive_fraction: float = 0.5,
        positive_iou: float = 0.7,
        negative_iou: float = 0.3,
        nms_iou: float = 0.7,
        pyramid: bool = False,
    ) -> None:
        sizes = tuple((size,) for size in anchor_sizes) if pyramid else (tuple(anchor_sizes),)
        anchors = AnchorGenerator(sizes, (tuple(aspect_ratios),) * len(sizes))
        super().__init__(
            anchors,
            RPNHead(channels, anchors.num_anchors_per_location()[0]),
            positive_iou,
            negative_iou,
            anchors_per_image,
            positive_fraction,
            {"training": 6 * train_proposals, "testing": 20 * test_proposals},
            {"training": train_proposals, "testing": test_proposals},
            nms_iou,
        )
        self._for_losses = False

    def pre_nms_top_n(self) -> int:
        """How many proposals go into suppression."""
        return int(self._pre_nms_top_n["training" if self._for_losses else "testing"])

    def post_nms_top_n(self) -> int:
        """How many proposals come out of suppression."""
        return int(self._post_nms_top_n["training" if self._for_losses else "testing"])

    def forward(
        self,
        images: ImageList,
        features: Tensor | Sequence[Tensor],
        boxes: list[Tensor] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals of each image, best first, and the losses where `boxes` are given.

        Args:
            images: the batch, for its sizes.
            features: (B, C, h, w), or one such map a level.
            boxes: per image the true boxes (N_i, 4) in pixels of the batch.

        Returns:
            Proposals (P_i, 4) in pixels of the batch; ``{}``, or the losses ``rpn_objectness`` and
            ``rpn_box``.
        """
        self._for_losses = boxes is not None
        maps = [features] if isinstance(features, Tensor) else list(features)
        anchors = self.anchor_generator(images, maps)
        objectness, deltas = self.head(maps)
        per_level = [o.shape[1] * o.shape[2] * o.shape[3] for o in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        # Losses and decoding are in float32, also under autocast.
        objectness, deltas = objectness.float(), deltas.float()
        decoded = self.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
        proposals, _ = self.filter_proposals(decoded, objectness, images.image_sizes, per_level)
        if boxes is None:
            return proposals, {}
        labels, matched = self.assign_targets_to_anchors(anchors, [{"boxes": b} for b in boxes])
        regression = self.box_coder.encode(matched, anchors)
        objectness_loss, box_loss = self.compute_loss(objectness, deltas, labels, regression)
        return proposals, {"rpn_objectness": objectness_loss, "rpn_box": box_loss}


class BoxPredictor(nn.Module):
    """Says of each region whether it shows a person, and where the person's box is.

    Args:
        channels: C, of what is pooled.
        grid: rows and columns that it is averaged over; (1, 1) is a global average.
        hidden: width of two fully connected layers in between; 0 has none.
    """

    def __init__(self, channels: int, grid: tuple[int, int] = (1, 1), hidden: int = 0) -> None:
        super().__init__()
        self.grid = grid
        width = channels * math.prod(grid)
        self.layers = nn.Sequential()
        if hidden:
            self.layers = nn.Sequential(
                nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
            )
            width = hidden
        self.classifier = nn.Linear(width, 2)
        self.regressor = nn.Linear(width, 4)
        for layer, std in ((self.classifier, 0.01), (self.regressor, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, 2), background first, and box deltas (R, 4), of `pooled` (R, C, h, w)."""
        seen = self.layers(functional.adaptive_avg_pool2d(pooled, self.grid).flatten(1))
        return self.classifier(seen), self.regressor(seen)


@dataclass
class SampledRegions:
    """Regions drawn for the losses, those of image 0 first.

    Attributes:
        boxes: per image (R_i, 4), in pixels of the batch.
        foreground: (R,) bool, whether the region shows a person.
        ids: (R,) int64, the person's identity, `UNLABELLED` where unknown or background.
        ious: (R,) with the person's box, zero on background.
        deltas: (R, 4) from the region to the person's box, zero on background.
    """

    boxes: list[Tensor]
    foreground: Tensor
    ids: Tensor
    ious: Tensor
    deltas: Tensor


class RegionSampler:
    """Draws proposals for the losses, true boxes among them (Girshick 2015, section 2.3).

    Args:
        per_image: how many regions of an image at the most.
        positive_fraction: the most of them that show a person.
        positive_iou: a region at least this near to a person's box shows the person.
        negative_iou: a region below this is background; in between it is left out.
        coder_weights: the scale of the box deltas.
    """

    def __init__(
        self,
        per_image: int = 128,
        positive_fraction: float = 0.5,
        positive_iou: float = 0.5,
        negative_iou: float = 0.5,
        coder_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0),
    ) -> None:
        self.matcher = Matcher(positive_iou, negative_iou, allow_low_quality_matches=False)
        self.sampler = BalancedPositiveNegativeSampler(per_image, positive_fraction)
        self.coder = BoxCoder(coder_weights)

    @torch.no_grad()
    def __call__(
        self, proposals: list[Tensor], boxes: list[Tensor], ids: list[Tensor]
    ) -> SampledRegions:
        """Samples of `proposals` (P_i, 4), given the true `boxes` (N_i, 4) and `ids` (N_i,)."""
        candidates = [torch.cat([p, b]) for p, b in zip(proposals, boxes, strict=True)]
        overlaps = [box_iou(b, c) for b, c in zip(boxes, candidates, strict=True)]
        matches = [
            self.matcher(overlap)
            if len(overlap)
            else overlap.new_full(overlap.shape[1:], Matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64)
            for overlap in overlaps
        ]
        # The sampler reads 1 as positive, 0 as negative, -1 as left out.
        labels = [
            torch.where(m >= 0, 1, torch.where(m == Matcher.BELOW_LOW_THRESHOLD, 0, -1))
            for m in matches
        ]
        positives, negatives = self.sampler(labels)
        chosen, foreground, owners, ious, deltas = [], [], [], [], []
        for c, m, pos, neg, b, i, overlap in zip(
            candidates, matches, positives, negatives, boxes, ids, overlaps, strict=True
        ):
            rows = torch.where(pos | neg)[0]
            match = m[rows]
            is_person = match >= 0
            chosen.append(c[rows])
            foreground.append(is_person)
            owner = torch.full_like(match, UNLABELLED)
            iou, delta = c.new_zeros(len(rows)), c.new_zeros((len(rows), 4))
            if is_person.any():
                owner[is_person] = i[match[is_person]]
                iou[is_person] = overlap[match[is_person], rows[is_person]]
                delta[is_person] = self.coder.encode_single(b[match[is_person]], c[rows][is_person])
            owners.append(owner)
            ious.append(iou)
            deltas.append(delta)
        return SampledRegions(
            chosen,
            torch.cat(foreground),
            torch.cat(owners),
            torch.cat(ious),
            torch.cat(deltas),
        )


def detection_losses(logits: Tensor, deltas: Tensor, regions: SampledRegions) -> dict[str, Tensor]:
    """Cross-entropy over background and person, and smooth L1 on the person's box (Girshick 2015).

    Args:
        logits: (R, 2), background first.
        deltas: (R, 4), predicted.
        regions: what they were predicted for.
    """
    person = regions.foreground
    classification = functional.cross_entropy(logits.float(), person.long())
    box = functional.smooth_l1_loss(
        deltas.float()[person], regions.deltas[person], beta=1 / 9, reduction="sum"
    ) / max(len(person), 1)
    return {"detection": classification, "box": box}


def decode_boxes(
    coder: BoxCoder, deltas: Tensor, regions: list[Tensor], sizes: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """Boxes that predicted `deltas` (R, 4) make of `regions`, cut to images of (height, width)."""
    counts = [len(r) for r in regions]
    boxes = coder.decode_single(deltas.float(), torch.cat(regions)).split(counts)
    return [clip_boxes_to_image(b, size) for b, size in zip(boxes, sizes, strict=True)]


def select_detections(
    boxes: Tensor, scores: Tensor, score_threshold: float, nms_iou: float, most: int
) -> Tensor:
    """Rows of `boxes` (R, 4) to keep, best first: sure enough, not empty, not suppressed.

    Raises:
        ModelError: a score is NaN.
    """
    if scores.isnan().any():
        raise ModelError("the network gives NaN as a score; it has diverged, train it again")
    sides = boxes[:, 2:] - boxes[:, :2]
    rows = torch.where((scores >= score_threshold) & (sides >= 1.0).all(dim=1))[0]
    kept: Tensor = rows[nms(boxes[rows], scores[rows], nms_iou)[:most]]
    return kept


def grid(name: str, value: Sequence[int]) -> tuple[int, int]:
    """Return a setting of rows and columns as a tuple.

    Raises:
        ModelError: not two positive numbers.
    """
    if len(value) != 2 or min(value) < 1:
        raise ModelError(
            f"{name} is {list(value)}, expected two positive numbers: rows and columns"
        )
    return int(value[0]), int(value[1])
