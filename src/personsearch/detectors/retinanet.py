"""A one-class RetinaNet over torchvision (Lin et al. 2017, Focal loss).

maps C3, C4, C5 -> feature pyramid P3 to P7 -> on each level a classifier and a box regressor, slid
over anchors. Predictions, losses and detections are three steps, none of which depends on the
training mode. Detected boxes carry a gradient to the box deltas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork, box_iou, clip_boxes_to_image, sigmoid_focal_loss
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from personsearch.detectors.faster_rcnn import match_boxes, select_detections
from personsearch.detectors.weights import COCO_PERSON, fit_detector
from personsearch.distributed import all_counts
from personsearch.errors import ModelError

LEVELS = ("C3", "C4", "C5")
"""The blocks of a trunk that the pyramid stands on."""


@dataclass(frozen=True)
class RetinaNetSettings:
    """Pyramid, anchors, losses and detections; each field is a recipe key."""

    pyramid_channels: int = 256  # of each level
    head_depth: int = 4  # 3 x 3 convolutions of each branch before its prediction, 0 to 4
    head_norm: Literal["none", "group"] = "none"  # after each convolution; none in the paper
    # square root of the smallest anchors' areas, in scaled pixels, one number a level from P3 on;
    # three numbers or fewer leave P6 and P7 out
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512)
    anchor_octaves: int = 3  # anchors of each ratio at a cell, each 2^(1 / anchor_octaves) larger
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0)  # height to width
    fg_iou_threshold: float = 0.5  # anchors from this IoU on are foreground
    bg_iou_threshold: float = 0.4  # anchors below are background
    focal_alpha: float = 0.25  # of the focal loss
    focal_gamma: float = 2.0  # of the focal loss
    box_beta: float = 1 / 9  # where smooth L1 turns from square to linear, in units of box deltas
    # RetinaNet's deltas of x, y, width and height are multiplied by these before the loss: the
    # larger, the less a prediction moves the box. (10, 10, 5, 5) in maskrcnn-benchmark
    box_coder: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
    score_threshold: float = 0.05  # detections below are dropped
    nms_iou: float = 0.5  # above it the weaker of two is dropped
    max_detections: int = 100  # of a picture
    topk_candidates: int = 1000  # best anchors of each level that go into suppression


PUBLISHED = RetinaNetSettings()
"""The paper's settings, and those of torchvision's published network."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for A anchors in each of B pictures, float32."""

    logits: Tensor  # (B, A), that the anchor shows an object
    deltas: Tensor  # (B, A, 4), from the anchor to the object's box
    anchors: Tensor  # (A, 4) in pixels of the batch, the same in all pictures
    levels: tuple[int, ...]  # anchors of each level, P3 first


@dataclass(frozen=True)
class DetectedBoxes:
    """The objects detected in one picture, best first, with gradient to deltas and logits."""

    rows: Tensor  # (K,) int64, the anchors or regions that they come from
    boxes: Tensor  # (K, 4) in pixels of the batch
    scores: Tensor  # (K,) in 0..1


def keep_best(
    rows: Tensor, boxes: Tensor, scores: Tensor, settings: RetinaNetSettings
) -> DetectedBoxes:
    """Return the detections of a picture after threshold and suppression."""
    limits = (settings.score_threshold, settings.nms_iou, settings.max_detections)
    kept = select_detections(boxes.detach(), scores.detach(), *limits)
    return DetectedBoxes(rows[kept], boxes[kept], scores[kept])


class RetinaNet(nn.Module):
    """A one-class RetinaNet on the maps of a trunk.

    Raises:
        ModelError: settings that no network can have.
    """

    def __init__(
        self,
        channels: Mapping[str, int],  # of C3, C4 and C5, by these names; others are ignored
        settings: RetinaNetSettings = PUBLISHED,  # pyramid, anchors, losses and detections
    ) -> None:
        super().__init__()
        count, octaves = len(settings.anchor_sizes), settings.anchor_octaves
        if count not in (1, 2, 3, 5) or octaves < 1 or not len(settings.aspect_ratios):
            raise ModelError(
                f"anchor_sizes is {list(settings.anchor_sizes)}, anchor_octaves {octaves} and "
                f"aspect_ratios {list(settings.aspect_ratios)}; expected 1, 2, 3 or 5 sizes (from "
                "P3 on), at least 1 octave and at least 1 ratio"
            )
        if len(settings.box_coder) != 4 or min(settings.box_coder) <= 0:
            raise ModelError(
                f"box_coder is {list(settings.box_coder)}, expected four positive numbers: of "
                "x, y, width and height"
            )
        if not 0 <= settings.head_depth <= 4:
            raise ModelError(f"head_depth is {settings.head_depth}, expected 0 to 4")
        self.settings = settings
        self.levels = LEVELS[: min(count, len(LEVELS))]
        width = settings.pyramid_channels
        # P6 is made of P5, as in torchvision's published network; Lin et al. make it of C5.
        more = LastLevelP6P7(width, width) if count > len(LEVELS) else None
        self.pyramid = FeaturePyramidNetwork([channels[k] for k in self.levels], width, more)
        sizes = tuple(
            tuple(int(size * 2 ** (k / octaves)) for k in range(octaves))
            for size in settings.anchor_sizes
        )
        self.anchors = AnchorGenerator(sizes, (tuple(settings.aspect_ratios),) * count)
        norm = partial(nn.GroupNorm, max(1, width // 8)) if settings.head_norm == "group" else None
        self.head = RetinaNetHead(width, self.anchors.num_anchors_per_location()[0], 1, norm)
        for branch in (self.head.classification_head, self.head.regression_head):
            branch.conv = branch.conv[: settings.head_depth]
        self.matcher = Matcher(
            settings.fg_iou_threshold, settings.bg_iou_threshold, allow_low_quality_matches=True
        )
        x, y, w, h = settings.box_coder
        self.coder = BoxCoder((x, y, w, h))

    def forward(
        self, batch: ImageList, maps: Mapping[str, Tensor], boxes: Sequence[Tensor] | None = None
    ) -> tuple[Predictions, dict[str, Tensor]]:
        """Return predictions for each anchor, and the losses ``focal`` and ``box`` if given boxes.

        The maps are (B, C, h, w) of each block by name, true boxes (N_i, 4) in pixels of the batch.
        """
        pyramid = list(self.pyramid({k: maps[k] for k in self.levels}).values())
        outputs = self.head(pyramid)
        per_cell = self.anchors.num_anchors_per_location()
        predictions = Predictions(
            outputs["cls_logits"].squeeze(2).float(),
            outputs["bbox_regression"].float(),
            self.anchors(batch, pyramid)[0],
            tuple(p.shape[2] * p.shape[3] * n for p, n in zip(pyramid, per_cell, strict=True)),
        )
        return predictions, {} if boxes is None else self.losses(predictions, boxes)

    def losses(self, predictions: Predictions, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return ``focal`` (eq. 5) and ``box`` (smooth L1), divided by the foreground anchors.

        ``focal`` leaves out anchors between the IoU thresholds, ``box`` is of those on objects.
        """
        settings, anchors = self.settings, predictions.anchors
        matches = torch.stack([self.match(anchors, b) for b in boxes])
        foreground = matches >= 0
        clear = matches != Matcher.BETWEEN_THRESHOLDS
        counts, _ = all_counts([int(foreground.sum())])  # the mean is that of the joined batch
        scale = len(counts) / max(1, sum(counts))
        focal = sigmoid_focal_loss(
            predictions.logits[clear],
            foreground[clear].float(),
            settings.focal_alpha,
            settings.focal_gamma,
            reduction="sum",
        )
        true_deltas = torch.cat(
            [
                self.coder.encode_single(b[m[f]].float(), anchors[f])
                for b, m, f in zip(boxes, matches, foreground, strict=True)
            ]
        )
        box = functional.smooth_l1_loss(
            predictions.deltas[foreground], true_deltas, beta=settings.box_beta, reduction="sum"
        )
        return {"focal": focal * scale, "box": box * scale}

    @torch.no_grad()
    def match(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Return the row of `boxes` (N, 4) that each of `anchors` (A, 4) shows, (A,) int64.

        -1 is background, -2 between the thresholds. The nearest anchors of a box show it even
        below `fg_iou_threshold`.
        """
        return match_boxes(self.matcher, box_iou(boxes.float(), anchors))

    def postprocess(
        self, predictions: Predictions, sizes: Sequence[tuple[int, int]]
    ) -> list[DetectedBoxes]:
        """Return the objects in each picture: the best anchors of each level, then suppression.

        Raises:
            ModelError: a score is NaN.
        """
        detected = []
        for logits, deltas, size in zip(predictions.logits, predictions.deltas, sizes, strict=True):
            rows = self._best(logits.detach(), predictions.levels)
            boxes = self.coder.decode_single(deltas[rows], predictions.anchors[rows])
            boxes = clip_boxes_to_image(boxes, size)
            detected.append(keep_best(rows, boxes, logits[rows].sigmoid(), self.settings))
        return detected

    def _best(self, logits: Tensor, levels: Sequence[int]) -> Tensor:
        """Return the rows of the best anchors of each level."""
        rows, start = [], 0
        for level in logits.split(list(levels)):
            best = level.topk(min(len(level), self.settings.topk_candidates)).indices
            rows.append(best + start)
            start += len(level)
        return torch.cat(rows)

    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Load pyramid and head of a torchvision RetinaNet; of its classes, the person alone.

        Raises:
            ModelError: they do not fit these settings.
        """
        per_cell = self.head.classification_head.num_anchors
        people = {
            name: tensor.unflatten(0, (per_cell, -1))[:, COCO_PERSON]
            if ".cls_logits." in name and not len(tensor) % per_cell
            else tensor
            for name, tensor in tensors.items()
        }
        fit_detector(
            {"backbone.fpn.": self.pyramid, "head.": self.head},
            people,
            "torchvision's RetinaNet (weights = 'coco'), of pyramid_channels = 256, "
            "head_depth = 4, head_norm = 'none', 5 anchor_sizes, 3 anchor_octaves and "
            "3 aspect_ratios",
        )
