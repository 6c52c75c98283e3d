"""Faster R-CNN on a feature pyramid over torchvision (Lin et al. 2017, FPN).

maps C2 to C5 -> pyramid P2 to P6 -> proposals on each level -> each region pooled from the level
of its size -> two fully connected layers -> person or not, box. As in `retinanet.RetinaNet`, losses
and detections are two steps, and detected boxes carry a gradient.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper

from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    ProposalNetwork,
    RegionSampler,
    decode_boxes,
    detection_losses,
    grid,
    split_like,
)
from personsearch.detectors.retinanet import DetectedBoxes, RetinaNetSettings, keep_best
from personsearch.detectors.weights import COCO_PERSON, fit_detector
from personsearch.errors import ModelError
from personsearch.types import UNLABELLED

LEVELS = ("C2", "C3", "C4", "C5")
"""The blocks of a trunk that the pyramid stands on."""


@dataclass(frozen=True)
class PyramidSettings(RetinaNetSettings):
    """The settings of both detectors on a pyramid, and those of Faster R-CNN alone."""

    rpn_pre_nms_top_n_train: int = 2000  # proposals of each level that go into suppression
    rpn_pre_nms_top_n_test: int = 1000  # the same at search time
    rpn_post_nms_top_n_train: int = 2000  # proposals kept of a picture
    rpn_post_nms_top_n_test: int = 1000  # the same at search time
    rpn_batch_size_per_image: int = 256  # anchors in the proposal losses
    roi_size: Sequence[int] = (7, 7)  # height and width of a pooled region
    rois_per_image: int = 512  # regions in the losses
    roi_positive_fraction: float = 0.25  # the largest share of them that shows a person
    detection_hidden: int = 1024  # width of the two fully connected layers


PUBLISHED = PyramidSettings()
"""Torchvision's published settings; those of Detectron but for `box_beta`, which is 1 there."""


@dataclass(frozen=True)
class PyramidProposals:
    """The network's own proposals for each picture; no true box is among them."""

    pyramid: dict[str, Tensor]  # the levels that regions are pooled from
    boxes: list[Tensor]  # (P_i, 4) in pixels of the batch, best first


class PyramidFasterRCNN(nn.Module):
    """A one-class Faster R-CNN with a feature pyramid.

    Raises:
        ModelError: settings that no network can have.
    """

    def __init__(
        self,
        channels: Mapping[str, int],  # of C2 to C5; fewer than five anchor sizes use fewer
        strides: Mapping[str, int],  # pixels of the picture to one cell of each block's output
        settings: PyramidSettings = PUBLISHED,  # pyramid, proposals, regions, losses and detections
    ) -> None:
        super().__init__()
        count = len(settings.anchor_sizes)
        if not 1 <= count <= 5 or not len(settings.aspect_ratios):
            raise ModelError(
                f"anchor_sizes is {list(settings.anchor_sizes)} and aspect_ratios "
                f"{list(settings.aspect_ratios)}; expected 1 to 5 sizes (from P2 on) and at least "
                "1 ratio"
            )
        self.settings = settings
        self.levels = LEVELS[: min(count, len(LEVELS))]
        width = settings.pyramid_channels
        more = LastLevelMaxPool() if count > len(LEVELS) else None
        self.pyramid = FeaturePyramidNetwork([channels[k] for k in self.levels], width, more)
        self.proposals = ProposalNetwork(
            width,
            settings.anchor_sizes,
            settings.aspect_ratios,
            settings.rpn_post_nms_top_n_train,
            settings.rpn_post_nms_top_n_test,
            settings.rpn_batch_size_per_image,
            pre_nms_top_n_train=settings.rpn_pre_nms_top_n_train,
            pre_nms_top_n_test=settings.rpn_pre_nms_top_n_test,
            pyramid=True,
        )
        self.sampler = RegionSampler(settings.rois_per_image, settings.roi_positive_fraction)
        size = grid("roi_size", settings.roi_size)
        self.pool = MultiScaleRoIAlign(list(self.levels), size, 2)
        # Which level a region is pooled from follows from the levels' real strides; torchvision
        # would guess them from the first picture.
        self.pool.scales = [1.0 / strides[k] for k in self.levels]
        first, last = (int(math.log2(strides[k])) for k in (self.levels[0], self.levels[-1]))
        self.pool.map_levels = initLevelMapper(first, last)
        self.box_predictor = BoxPredictor(width, size, settings.detection_hidden)

    def forward(
        self, batch: ImageList, maps: Mapping[str, Tensor], boxes: Sequence[Tensor] | None = None
    ) -> tuple[PyramidProposals, dict[str, Tensor]]:
        """Return the proposals, and the losses if given boxes.

        Given true boxes (N_i, 4) in pixels of the batch, the losses are ``rpn_objectness``,
        ``rpn_box``, ``detection`` and ``box``; true boxes are among the regions that are sampled
        for the last two alone. The maps are (B, C, h, w) of each block by name.
        """
        pyramid = self.pyramid({k: maps[k] for k in self.levels})
        true = None if boxes is None else [b.float() for b in boxes]
        proposals = self.proposals(batch, list(pyramid.values()), true)
        # RoIAlign has no bfloat16 kernel on every device.
        levels = {name: pyramid[name].float() for name in self.levels}
        kept = self.settings.rpn_post_nms_top_n_test
        own = PyramidProposals(levels, [b[:kept] for b in proposals.boxes])
        if true is None:
            return own, {}
        nobody = [torch.full((len(b),), UNLABELLED, device=b.device) for b in true]
        sampled = self.sampler(proposals.boxes, true, nobody)
        logits, deltas = self._predict(levels, sampled.boxes, batch.image_sizes)
        losses = detection_losses(logits, deltas, sampled, self.settings.box_beta)
        return own, proposals.losses | losses

    def _predict(
        self,
        levels: dict[str, Tensor],
        regions: list[Tensor],
        sizes: Sequence[tuple[int, int]],
    ) -> tuple[Tensor, Tensor]:
        """Return logits (R, 2) and deltas (R, 4) of regions."""
        logits, deltas = self.box_predictor(self.pool(levels, regions, list(sizes)))
        return logits.float(), deltas.float()

    def postprocess(
        self, proposals: PyramidProposals, sizes: Sequence[tuple[int, int]]
    ) -> list[DetectedBoxes]:
        """Return the people in each picture, best first, with gradient to the deltas.

        Raises:
            ModelError: a score is NaN.
        """
        logits, deltas = self._predict(proposals.pyramid, proposals.boxes, sizes)
        scores = split_like(logits.softmax(dim=1)[:, 1], proposals.boxes)
        boxes = decode_boxes(self.sampler.coder, deltas, proposals.boxes, sizes)
        return [
            keep_best(torch.arange(len(b), device=b.device), b, s, self.settings)
            for b, s in zip(boxes, scores, strict=True)
        ]

    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Load pyramid, proposals and head of a torchvision Faster R-CNN.

        Of its classes, background and the person are kept: a score is the probability of a person
        against background alone.

        Raises:
            ModelError: they do not fit these settings.
        """
        predictor = "roi_heads.box_predictor."
        renamed = {
            "roi_heads.box_head.fc6.": "roi_heads.layers.0.",
            "roi_heads.box_head.fc7.": "roi_heads.layers.2.",
            f"{predictor}cls_score.": "roi_heads.classifier.",
            f"{predictor}bbox_pred.": "roi_heads.regressor.",
        }
        ours = {}
        for name, tensor in tensors.items():
            start = next((k for k in renamed if name.startswith(k)), "")
            if start.endswith("cls_score."):
                tensor = tensor[[0, COCO_PERSON]]
            elif start.startswith(predictor):
                tensor = tensor[4 * COCO_PERSON : 4 * COCO_PERSON + 4]
            ours[renamed.get(start, "") + name.removeprefix(start)] = tensor
        fit_detector(
            {
                "backbone.fpn.": self.pyramid,
                "rpn.": self.proposals,
                "roi_heads.": self.box_predictor,
            },
            ours,
            "torchvision's Faster R-CNN (weights = 'coco-faster-rcnn'), of pyramid_channels = 256, "
            "5 anchor_sizes, 3 aspect_ratios, roi_size = [7, 7] and detection_hidden = 1024",
        )
