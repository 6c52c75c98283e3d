"""The parts of Faster R-CNN over torchvision: transform, proposals, sampled regions, detections.

No part depends on the training mode: it computes losses where it is given targets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

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
from torchvision.ops import box_iou, clip_boxes_to_image, nms, roi_align, roi_pool

from personsearch.detectors.memory_format import are_together
from personsearch.detectors.roi_align import align_rows
from personsearch.detectors.suppression import suppress
from personsearch.detectors.weights import IMAGENET_MEAN, IMAGENET_STD
from personsearch.distributed import all_counts, world_size
from personsearch.errors import ModelError
from personsearch.types import UNLABELLED

Pooling = Literal["max", "align"]
"""RoI pooling (Girshick 2015) or RoIAlign (He et al. 2017)."""


class PictureTransform(GeneralizedRCNNTransform):
    """Normalise pictures as ImageNet's, scale them, and join them into one padded batch.

    The shorter side becomes `min_size` pixels, or less so that the longer stays in `max_size`. With
    `stretch`, every picture becomes `max_size` wide and `min_size` high, whatever its proportions.
    """

    def __init__(self, min_size: int, max_size: int, stretch: bool = False) -> None:
        fixed = (max_size, min_size) if stretch else None
        mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
        super().__init__(min_size, max_size, mean, std, fixed_size=fixed)

    def torch_choice(self, k: list[int]) -> int:
        return k[0]  # torchvision draws a size, in training mode alone

    def to_batch(self, images: Sequence[Tensor]) -> ImageList:
        """Join pictures (3, H, W) in 0..1 into one batch."""
        batch, _ = self(list(images))
        return batch

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        if world_size() > 1 and torch.is_grad_enabled():
            # Processes that train share a batch, and padding reaches into the maps.
            sides, _ = all_counts([max(image.shape[k] for image in images) for k in (1, 2)])
            largest = images[0].new_zeros(()).expand(3, max(sides[::2]), max(sides[1::2]))
            images = [*images, largest]
            return cast(Tensor, super().batch_images(images, size_divisible))[:-1]
        return cast(Tensor, super().batch_images(images, size_divisible))

    @staticmethod
    def scale(boxes: Sequence[Tensor], images: Sequence[Tensor], batch: ImageList) -> list[Tensor]:
        """Map boxes from pixels of `images` to pixels of `batch`."""
        sizes = [tuple(image.shape[-2:]) for image in images]
        rows = zip(boxes, sizes, batch.image_sizes, strict=True)
        return [resize_boxes(b.float(), size, scaled) for b, size, scaled in rows]

    @staticmethod
    def unscale(
        boxes: Sequence[Tensor], images: Sequence[Tensor], batch: ImageList
    ) -> list[Tensor]:
        """Map boxes from pixels of `batch` to pixels of `images`."""
        sizes = [tuple(image.shape[-2:]) for image in images]
        rows = zip(boxes, sizes, batch.image_sizes, strict=True)
        return [resize_boxes(b.float(), scaled, size) for b, size, scaled in rows]


@dataclass(frozen=True)
class Proposals:
    """Regions that may show a person, of each image of a batch, best first."""

    boxes: list[Tensor]  # (P_i, 4) in pixels of the batch
    scores: list[Tensor]  # (P_i,) the probability that a region shows a person
    losses: dict[str, Tensor]  # empty without true boxes


class JoinedSampler(BalancedPositiveNegativeSampler):
    """torchvision's draw of rows of each picture, over the pictures of all processes.

    N processes with equally many pictures draw what one process would on the joined batch.
    """

    share = 1.0
    """Rows that were drawn last, over their mean in all processes: the weight of a mean of them."""

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return masks of the drawn rows that are positive (label 1 or more) and negative (0)."""
        if world_size() == 1:
            drawn: tuple[list[Tensor], list[Tensor]] = super().__call__(labels)
            return drawn
        sizes = [n for label in labels for n in ((label >= 1).sum(), (label == 0).sum())]
        counts, own = all_counts(torch.stack(sizes).tolist())
        pairs = list(zip(counts[::2], counts[1::2], strict=True))
        own = slice(own.start // 2, own.stop // 2)
        # What the others' rows are does not matter, how many there are does.
        everyone = [torch.arange(p + n, device=labels[0].device) < p for p, n in pairs]
        everyone[own] = labels
        positives, negatives = super().__call__(everyone)
        most = int(self.batch_size_per_image * self.positive_fraction)
        taken = [(min(p, most), n) for p, n in pairs]
        taken_rows = [p + min(n, self.batch_size_per_image - p) for p, n in taken]
        self.share = sum(taken_rows[own]) * world_size() / max(1, sum(taken_rows))
        return positives[own], negatives[own]


class ProposalNetwork(RegionProposalNetwork):
    """Region proposals on one feature map (Ren et al. 2015), or on the levels of a pyramid."""

    def __init__(
        self,
        channels: int,  # of the feature map
        anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),  # roots of areas in input pixels
        aspect_ratios: Sequence[float] = (1.0, 2.0, 3.0),  # height to width
        # proposals kept of an image after suppression; at test time it chooses from twenty times as
        # many, the published 6,000
        post_nms_top_n_train: int = 2000,
        post_nms_top_n_test: int = 300,
        batch_size_per_image: int = 256,  # anchors sampled for the losses, at most half foreground
        # proposals that suppression chooses from, on each level of a pyramid; at search time 0 is
        # twenty times as many as are kept
        pre_nms_top_n_train: int = 12000,
        pre_nms_top_n_test: int = 0,
        pyramid: bool = False,  # each anchor size has a level, the finest first (Lin et al. 2017)
        *,
        inside: bool = False,  # leave anchors that cross the border out of the losses
        min_size: float = 1e-3,  # least side of proposals, in pixels of the batch
    ) -> None:
        sizes = tuple((size,) for size in anchor_sizes) if pyramid else (tuple(anchor_sizes),)
        anchors = AnchorGenerator(sizes, (tuple(aspect_ratios),) * len(sizes))
        super().__init__(
            anchors,
            RPNHead(channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=batch_size_per_image,
            positive_fraction=0.5,
            pre_nms_top_n={
                "training": pre_nms_top_n_train,
                "testing": pre_nms_top_n_test or 20 * post_nms_top_n_test,
            },
            post_nms_top_n={"training": post_nms_top_n_train, "testing": post_nms_top_n_test},
            nms_thresh=0.7,
        )
        self._phase, self.inside, self.min_size = "testing", inside, min_size
        self.fg_bg_sampler = JoinedSampler(batch_size_per_image, 0.5)

    def pre_nms_top_n(self) -> int:
        return int(self._pre_nms_top_n[self._phase])

    def post_nms_top_n(self) -> int:
        return int(self._post_nms_top_n[self._phase])

    def forward(
        self,
        images: ImageList,  # the batch, for its sizes
        features: Tensor | Sequence[Tensor],  # (B, C, h, w), or one such map a level
        boxes: list[Tensor] | None = None,  # true boxes (N_i, 4) of each image, in batch pixels
    ) -> Proposals:
        """Return proposals, with the losses ``rpn_objectness`` and ``rpn_box`` if given `boxes`."""
        # torchvision looks at the training mode instead.
        self._phase = "testing" if boxes is None else "training"
        maps = [features] if isinstance(features, Tensor) else list(features)
        # Anchors take the type of the maps, and bfloat16 rounds 1,000 pixels to steps of 4.
        anchors = self.anchor_generator(
            images, [m.new_empty(m.shape, dtype=torch.float32) for m in maps]
        )
        objectness, deltas = self.head(maps)
        per_level = [o.shape[1] * o.shape[2] * o.shape[3] for o in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        # Losses and decoding are in float32, also under autocast.
        objectness, deltas = objectness.float(), deltas.float()
        decoded = self.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
        kept, scores = self.filter_proposals(decoded, objectness, images.image_sizes, per_level)
        if boxes is None:
            return Proposals(kept, scores, {})
        if self.inside:
            labels, matched = self._match_inside(anchors, boxes, images.image_sizes)
        else:
            labels, matched = self.assign_targets_to_anchors(anchors, [{"boxes": b} for b in boxes])
        regression = self.box_coder.encode(matched, anchors)
        objectness_loss, box_loss = self.compute_loss(objectness, deltas, labels, regression)
        share = self.fg_bg_sampler.share
        losses = {"rpn_objectness": objectness_loss * share, "rpn_box": box_loss * share}
        return Proposals(kept, scores, losses)

    def filter_proposals(
        self,
        proposals: Tensor,  # (B, A, 4)
        objectness: Tensor,  # (B x A, 1) logits
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the proposals (P_i, 4) of each picture and their scores, as torchvision does."""
        logits = objectness.detach().reshape(len(proposals), -1)
        rows = self._get_top_n_idx(logits, num_anchors_per_level)
        boxes = proposals.gather(1, rows[..., None].expand(-1, -1, 4))
        scores = logits.gather(1, rows).sigmoid()
        borders = boxes.new_tensor([(w, h, w, h) for h, w in image_shapes])
        boxes = torch.minimum(boxes.clamp(min=0), borders[:, None])
        sides = boxes[..., 2:] - boxes[..., :2]
        levels = None
        if len(num_anchors_per_level) > 1:
            ends = torch.tensor(num_anchors_per_level, device=rows.device).cumsum(0)
            levels = torch.bucketize(rows, ends, right=True)
        valid = (sides >= self.min_size).all(dim=2)
        kept = suppress(boxes, scores, valid, self.nms_thresh, self.post_nms_top_n(), levels)
        return [b[k] for b, k in zip(boxes, kept, strict=True)], [
            s[k] for s, k in zip(scores, kept, strict=True)
        ]

    def _match_inside(
        self, anchors: list[Tensor], boxes: list[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return each anchor's label (1, 0, or -1 if left out) and true box, as torchvision does.

        Anchors that cross the border are left out, even where one is a person's best; of a picture
        that is smaller than every anchor none is.
        """
        labels = [a.new_full((len(a),), -1.0) for a in anchors]
        matched = [a.clone() for a in anchors]
        for anchor, box, size, label, match in zip(
            anchors, boxes, sizes, labels, matched, strict=True
        ):
            rows = (clip_boxes_to_image(anchor, size) == anchor).all(dim=1)
            if not rows.any():
                rows[:] = True
            (label[rows],), (match[rows],) = self.assign_targets_to_anchors(
                [anchor[rows]], [{"boxes": box}]
            )
        return labels, matched


def fully_connected(width: int, hidden: int) -> tuple[nn.Sequential, int]:
    """Return two layers of `hidden` with ReLU (none if 0) on inputs of `width`, and their width.

    These are fc6 and fc7 of VGG16 without dropout: a loss may not depend on the training mode.
    """
    if not hidden:
        return nn.Sequential(), width
    layers = (nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
    return nn.Sequential(*layers), hidden


class BoxPredictor(nn.Module):
    """Person logits and box deltas of regions."""

    def __init__(
        self,
        channels: int,  # C, of the pooled regions
        grid: tuple[int, int] = (1, 1),  # they are averaged over these rows and columns
        hidden: int = 0,  # width of two fully connected layers before the predictions; 0 has none
        classify: bool = True,  # whether to have a classifier; without one the logits are zeros
    ) -> None:
        super().__init__()
        self.grid = grid
        self.layers, width = fully_connected(channels * math.prod(grid), hidden)
        self.classifier = nn.Linear(width, 2) if classify else None
        self.regressor = nn.Linear(width, 4)
        for layer, std in ((self.classifier, 0.01), (self.regressor, 0.001)):
            if layer is not None:
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (R, 2), background first, and deltas (R, 4), of `pooled` (R, C, h, w)."""
        x = self.layers(functional.adaptive_avg_pool2d(pooled, self.grid).flatten(1))
        logits = x.new_zeros((len(x), 2)) if self.classifier is None else self.classifier(x)
        return logits, self.regressor(x)


@dataclass
class SampledRegions:
    """Regions sampled for the losses, those of image 0 first."""

    boxes: list[Tensor]  # (R_i, 4) of each image, in pixels of the batch
    foreground: Tensor  # (R,) bool, whether the region shows a person
    ids: Tensor  # (R,) int64, the person's identity, `UNLABELLED` where unknown or background
    ious: Tensor  # (R,) IoU with the person's box, zero on background
    deltas: Tensor  # (R, 4) from the region to the person's box, zero on background
    share: float = 1.0  # R over its mean in all processes: the weight of a mean over the regions


class RegionSampler:
    """Sample proposals, and true boxes, for the losses (Girshick 2015, section 2.3).

    Raises:
        ModelError: `bg_iou_threshold` (the key ``background_iou``) is out of range.
    """

    def __init__(
        self,
        per_image: int = 128,  # the most regions of an image
        positive_fraction: float = 0.5,  # the largest share of them that shows a person
        fg_iou_threshold: float = 0.5,  # from this IoU on, a region shows the person
        bg_iou_threshold: float = 0.5,  # below it is background; between, left out
        add_true_boxes: bool = True,  # whether true boxes are sampled, too
    ) -> None:
        if not 0.0 < bg_iou_threshold <= fg_iou_threshold:
            raise ModelError(
                f"background_iou is {bg_iou_threshold}, expected above 0 and at most "
                f"{fg_iou_threshold}, from where on a region shows a person"
            )
        self.add_true_boxes = add_true_boxes
        self.matcher = Matcher(fg_iou_threshold, bg_iou_threshold, allow_low_quality_matches=False)
        self.sampler = JoinedSampler(per_image, positive_fraction)
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))

    @torch.no_grad()
    def __call__(
        self, proposals: list[Tensor], boxes: list[Tensor], ids: list[Tensor]
    ) -> SampledRegions:
        """Sample `proposals` (P_i, 4), given the true `boxes` (N_i, 4) and `ids` (N_i,)."""
        candidates = proposals
        if self.add_true_boxes:
            candidates = [torch.cat([p, b]) for p, b in zip(proposals, boxes, strict=True)]
        overlaps = [box_iou(b, c) for b, c in zip(boxes, candidates, strict=True)]
        matches = [match_boxes(self.matcher, overlap) for overlap in overlaps]
        # The sampler reads 1 as positive, 0 as negative, -1 as left out.
        labels = [
            torch.where(m >= 0, 1, torch.where(m == Matcher.BELOW_LOW_THRESHOLD, 0, -1))
            for m in matches
        ]
        positives, negatives = self.sampler(labels)
        chosen, foreground, all_ids, ious, deltas = [], [], [], [], []
        for c, m, pos, neg, b, i, overlap in zip(
            candidates, matches, positives, negatives, boxes, ids, overlaps, strict=True
        ):
            rows = torch.where(pos | neg)[0]
            person = m[rows] >= 0
            regions, owners = rows[person], m[rows][person]
            own_ids = torch.full_like(rows, UNLABELLED)
            own_ids[person] = i[owners]
            iou, delta = c.new_zeros(len(rows)), c.new_zeros((len(rows), 4))
            iou[person] = overlap[owners, regions]
            delta[person] = self.coder.encode_single(b[owners], c[regions])
            chosen.append(c[rows])
            foreground.append(person)
            all_ids.append(own_ids)
            ious.append(iou)
            deltas.append(delta)
        return SampledRegions(
            chosen,
            torch.cat(foreground),
            torch.cat(all_ids),
            torch.cat(ious),
            torch.cat(deltas),
            self.sampler.share,
        )


def match_boxes(
    matcher: Matcher,  # the thresholds
    overlaps: Tensor,  # (N, R) IoU of N boxes, maybe none, with R regions
) -> Tensor:
    """Return the row of the box that each region shows, or a negative constant of `Matcher`."""
    if not overlaps.numel():
        return overlaps.new_full(overlaps.shape[1:], Matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64)
    matches: Tensor = matcher(overlaps)
    return matches


def box_loss(deltas: Tensor, regions: SampledRegions, beta: float = 1 / 9) -> Tensor:
    """Smooth L1 on the deltas (R, 4) of people, over R: background counts in the average.

    Losses of regions are weighted by `SampledRegions.share`: the average of several processes is
    then that of one on the joined batch.
    """
    person = regions.foreground
    total = functional.smooth_l1_loss(
        deltas.float()[person], regions.deltas[person], beta=beta, reduction="sum"
    )
    return total / max(len(person), 1) * regions.share


def detection_losses(
    logits: Tensor, deltas: Tensor, regions: SampledRegions, box_beta: float = 1 / 9
) -> dict[str, Tensor]:
    """Return cross-entropy on logits (R, 2) and smooth L1 on deltas (R, 4) (Girshick 2015)."""
    total = functional.cross_entropy(logits.float(), regions.foreground.long(), reduction="sum")
    classification = total / max(len(logits), 1) * regions.share
    return {"detection": classification, "box": box_loss(deltas, regions, box_beta)}


def decode_boxes(
    coder: BoxCoder, deltas: Tensor, regions: list[Tensor], sizes: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """Apply `deltas` (R, 4) to `regions` and clip the boxes to images of (height, width)."""
    boxes = split_like(coder.decode_single(deltas.float(), torch.cat(regions)), regions)
    return [clip_boxes_to_image(b, size) for b, size in zip(boxes, sizes, strict=True)]


@dataclass(frozen=True)
class RegionPooling:
    """Pools given boxes from a map; the maps that it is called with share a stride."""

    # (R_i, 4) of each image, or (R, 5) with the index of the image first; in pixels of the batch
    boxes: Sequence[Tensor] | Tensor
    size: tuple[int, int]  # rows h and columns w of a pooled region
    stride: int  # pixels of the batch to one cell of the map
    pooling: Pooling
    sampling_ratio: int = 2  # points a side that RoIAlign averages in each of its cells
    aligned: bool = True  # whether RoIAlign shifts regions by half a cell

    def __call__(self, features: Tensor, step: int = 1) -> Tensor:
        """Pool a map (B, C, H, W) to (R, C, h, w), or to every step-th row and column of that.

        The result is float32, but of the map's type where its channels lie together (`align_rows`).
        """
        scale, ratio = 1.0 / self.stride, self.sampling_ratio
        rows: Tensor | list[Tensor]
        if isinstance(self.boxes, Tensor):
            rows = self.boxes.float()
        else:
            rows = [b.float() for b in self.boxes]
            if self.pooling == "align" and ratio and are_together(features):
                return align_rows(features, rows, self.size, scale, ratio, self.aligned, step)
        # Neither kernel of torchvision has bfloat16 on every device.
        features = features.float()
        pooled: Tensor = (
            roi_pool(features, rows, self.size, scale)
            if self.pooling == "max"
            else roi_align(features, rows, self.size, scale, ratio, self.aligned)
        )
        return pooled[:, :, ::step, ::step]

    def __getitem__(self, rows: Tensor) -> "RegionPooling":
        """Return the same of the regions `rows`, numbers or a mask of all R."""
        if isinstance(self.boxes, Tensor):
            return replace(self, boxes=self.boxes[rows])
        owners = [torch.full((len(b),), i, device=b.device) for i, b in enumerate(self.boxes)]
        boxes, pictures = torch.cat(list(self.boxes))[rows], torch.cat(owners)[rows]
        return replace(self, boxes=[boxes[pictures == i] for i in range(len(self.boxes))])

    def __len__(self) -> int:
        return len(self.boxes) if isinstance(self.boxes, Tensor) else sum(map(len, self.boxes))

    @property
    def is_linear(self) -> bool:
        """Whether a pooled region is a weighted sum of the map, the same in all channels."""
        return self.pooling == "align"

    @property
    def cells(self) -> int:
        """R x h x w."""
        return len(self) * math.prod(self.size)


def split_like(rows: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """Split `rows` (sum N_i, ...) into the lengths N_i of `parts`."""
    return [rows] if len(parts) == 1 else list(rows.split([len(part) for part in parts]))


def select_detections(
    boxes: Tensor, scores: Tensor, score_threshold: float, nms_iou: float, most: int
) -> Tensor:
    """Return the rows of `boxes` (R, 4) to keep, best first.

    As in torchvision, dropped are scores up to the threshold, boxes with a side under 0.01 pixels,
    and what suppression takes.

    Raises:
        ModelError: a score is NaN.
    """
    if scores.isnan().any():
        raise ModelError("the network gives NaN as a score; it has diverged, train it again")
    sides = boxes[:, 2:] - boxes[:, :2]
    rows = torch.where((scores > score_threshold) & (sides >= 0.01).all(dim=1))[0]
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
