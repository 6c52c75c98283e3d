"""Faster R-CNN on a feature pyramid, thin over torchvision (Lin et al. 2017, FPN).

maps C2 to C5 -> pyramid P2 to P6 -> proposals on each level -> each region is pooled from the level
of its size -> two fully connected layers -> person or not, box. Like `retinanet.RetinaNet` it gives
predictions, losses and detections in three steps, with gradient to the boxes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, clip_boxes_to_image
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    ProposalNetwork,
    RegionSampler,
    detection_losses,
    grid,
    select_detections,
)
from personsearch.detectors.retinanet import Found, RetinaNetSettings
from personsearch.errors import ModelError
from personsearch.types import UNLABELLED

LEVELS = ("C2", "C3", "C4", "C5")
"""The blocks of a trunk that the pyramid stands on."""


@dataclass(frozen=True)
class PyramidSettings(RetinaNetSettings):
    """What both detectors on a pyramid have, and what Faster R-CNN has besides.

    Attributes:
        rpn_train_proposals, rpn_test_proposals: proposals kept of a picture.
        rpn_anchors_per_image: anchors in the proposal losses.
        roi_size: height and width of a pooled region.
        rois_per_image: regions in the losses.
        roi_positive_fraction: the most of them that show a person.
        detection_hidden: width of the two fully connected layers.
    """

    rpn_train_proposals: int = 2000
    rpn_test_proposals: int = 1000
    rpn_anchors_per_image: int = 256
    roi_size: Sequence[int] = (7, 7)
    rois_per_image: int = 512
    roi_positive_fraction: float = 0.25
    detection_hidden: int = 1024


PUBLISHED = PyramidSettings()
"""The settings of Detectron, and of torchvision's published network."""


@dataclass(frozen=True)
class RegionPredictions:
    """What the network says of the regions of each picture.

    Attributes:
        regions: per picture (R_i, 4) in pixels of the batch.
        logits: (sum R_i, 2), background first.
        deltas: (sum R_i, 4), from the region to the person's box.
    """

    regions: list[Tensor]
    logits: Tensor
    deltas: Tensor


class PyramidFasterRCNN(nn.Module):
    """A one-class Faster R-CNN with a feature pyramid.

    Args:
        channels: of C2 to C5, by these names; fewer anchor sizes than five use fewer blocks.
        strides: pixels of the picture to one cell of each block's output.
        settings: pyramid, proposals, regions, losses and detections.

    Raises:
        ModelError: settings that no network can have.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        strides: Mapping[str, int],
        settings: PyramidSettings = PUBLISHED,
    ) -> None:
        super().__init__()
        count = len(settings.anchor_sizes)
        if not 1 <= count <= 5 or not len(settings.aspect_ratios):
            raise ModelError(
                f"anchor_sizes {list(settings.anchor_sizes)} and aspect_ratios "
                f"{list(settings.aspect_ratios)} came; expected 1 to 5 sizes (P2 on) and 1 ratio "
                "or more"
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
            settings.rpn_train_proposals,
            settings.rpn_test_proposals,
            settings.rpn_anchors_per_image,
            pyramid=True,
        )
        self.sampler = RegionSampler(settings.rois_per_image, settings.roi_positive_fraction)
        size = grid("roi_size", settings.roi_size)
        self.pool = MultiScaleRoIAlign(list(self.levels), size, 2)
        # Which level a region is pooled from follows from the levels' real strides.
        self.pool.scales = [1.0 / strides[k] for k in self.levels]
        self.box_predictor = BoxPredictor(width, size, settings.detection_hidden)

    def forward(
        self, batch: ImageList, maps: Mapping[str, Tensor], boxes: Sequence[Tensor] | None = None
    ) -> tuple[RegionPredictions, dict[str, Tensor]]:
        """What the network says of its proposals, and the losses where `boxes` are given.

        Args:
            batch: for its sizes.
            maps: (B, C, h, w) of each block by name.
            boxes: per picture the true boxes (N_i, 4) in pixels of the batch.

        Returns:
            The predictions, of the sample that the losses see where there are losses; ``{}``, or
            ``rpn_objectness``, ``rpn_box``, ``detection`` and ``box``.
        """
        pyramid = self.pyramid({k: maps[k] for k in self.levels})
        levels = list(pyramid.values())
        if boxes is None:
            regions, _ = self.proposals(batch, levels)
            return self._predict(batch, pyramid, regions), {}
        true = [b.float() for b in boxes]
        proposals, losses = self.proposals(batch, levels, true)
        nobody = [torch.full((len(b),), UNLABELLED, device=b.device) for b in true]
        sampled = self.sampler(proposals, true, nobody)
        predictions = self._predict(batch, pyramid, sampled.boxes)
        losses |= detection_losses(predictions.logits, predictions.deltas, sampled)
        weight = self.settings.detection_weight
        return predictions, {name: loss * weight for name, loss in losses.items()}

    def _predict(
        self, batch: ImageList, pyramid: Mapping[str, Tensor], regions: list[Tensor]
    ) -> RegionPredictions:
        # RoIAlign has no bfloat16 kernel on every device.
        levels = {name: pyramid[name].float() for name in self.levels}
        pooled = self.pool(levels, regions, batch.image_sizes)
        logits, deltas = self.box_predictor(pooled)
        return RegionPredictions(regions, logits.float(), deltas.float())

    def find(self, predictions: RegionPredictions, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """The people in each picture, best first, boxes with gradient to the deltas.

        Args:
            predictions: of B pictures.
            sizes: (height, width) of each picture in the batch.

        Raises:
            ModelError: a score is NaN.
        """
        settings = self.settings
        counts = [len(r) for r in predictions.regions]
        decoded = self.sampler.coder.decode_single(
            predictions.deltas, torch.cat(predictions.regions)
        ).split(counts)
        scores = predictions.logits.softmax(dim=1)[:, 1].split(counts)
        found = []
        for b, s, size in zip(decoded, scores, sizes, strict=True):
            inside = clip_boxes_to_image(b, size)
            kept = select_detections(
                inside.detach(),
                s.detach(),
                settings.score_threshold,
                settings.nms_iou,
                settings.max_detections,
            )
            found.append(Found(kept, inside[kept], s[kept]))
        return found
