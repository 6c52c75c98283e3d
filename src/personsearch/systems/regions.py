"""Systems that look at regions of one shared map: what they have in common.

picture -> stem -> shared map -> proposals -> pooled regions -> whatever the system makes of them.
A system says how a region becomes an embedding and how it is told from background; pictures,
scales, proposals, samples, and the first stage on people cut out are the same for all.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from personsearch.detectors.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from personsearch.detectors.faster_rcnn import (
    PictureTransform,
    ProposalNetwork,
    RegionSampler,
    grid,
    select_detections,
)
from personsearch.errors import ModelError
from personsearch.losses.cosine_softmax import CosineSoftmax
from personsearch.systems.base import PersonSearchModel, Target, split_targets
from personsearch.types import Detections


@dataclass(frozen=True)
class RegionSettings:
    """Pictures, proposals, regions and detections of a system; each field is a recipe key.

    Attributes:
        min_size, max_size: the picture is scaled to this shorter side, within this longer side.
        anchor_sizes, aspect_ratios: anchors in scaled pixels, and their height to width.
        rpn_train_proposals, rpn_test_proposals: proposals kept of a picture.
        rpn_anchors_per_image: anchors in the proposal losses.
        roi_size: height and width of a pooled region.
        roi_sampling: points a side that RoIAlign averages in each of its cells.
        rois_per_image: regions in the losses.
        roi_positive_fraction: the most of them that show a person.
        detection_grid: rows and columns that the person classifier and the box regressor average
            what they read over.
        detection_hidden: width of two fully connected layers of their own, on the pooled region
            before the head; at 0 they read the head's output, as published systems do.
        detection_weight: of the detection losses in the sum.
        score_threshold, nms_iou, max_detections: what `detect` keeps.
        crop_loss: ``"own"`` or ``"softmax"``, what tells people apart in the crop stage: the
            system's own loss, or a classifier over cosines that only this stage has.
        crop_jitter: how far the sides of the boxes that it embeds are moved at the most, as a part
            of the box's size: the boxes of a detector are never exact.
        crop_detection: whether the crop stage also learns to find the people on its canvases.
    """

    # input
    min_size: int = 600
    max_size: int = 1000
    # proposals
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512)
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0)
    rpn_train_proposals: int = 2000
    rpn_test_proposals: int = 300
    rpn_anchors_per_image: int = 256
    # regions
    roi_size: Sequence[int] = (14, 14)
    roi_sampling: int = 2
    rois_per_image: int = 128
    roi_positive_fraction: float = 0.5
    # detection branch
    detection_grid: Sequence[int] = (1, 1)
    detection_hidden: int = 0
    detection_weight: float = 1.0
    # detections
    score_threshold: float = 0.01
    nms_iou: float = 0.4
    max_detections: int = 300
    # first stage
    crop_loss: Literal["own", "softmax"] = "own"
    crop_jitter: float = 0.08
    crop_detection: bool = False


@dataclass(frozen=True)
class View:
    """Pictures and what the stem saw of them.

    Attributes:
        images: as they came, (3, H, W) each.
        batch: scaled, normalised and padded.
        features: the shared map (B, C, h, w).
    """

    images: list[Tensor]
    batch: ImageList
    features: Tensor


class RegionSystem(PersonSearchModel):
    """The base of systems on one shared map with proposals.

    Args:
        backbone: the cut network.
        num_ids: labelled identities in the training set.
        embedding_dim: D, the length of an embedding.
        settings: pictures, proposals, regions and detections.
    """

    def __init__(
        self, backbone: Backbone, num_ids: int, embedding_dim: int, settings: RegionSettings
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.settings = settings
        self.roi_size = grid("roi_size", settings.roi_size)
        self.transform = PictureTransform(
            settings.min_size, settings.max_size, IMAGENET_MEAN, IMAGENET_STD
        )
        self.stem, self.head, self.stride = backbone.stem, backbone.head, backbone.stride
        self.proposals = ProposalNetwork(
            backbone.stem_channels,
            settings.anchor_sizes,
            settings.aspect_ratios,
            settings.rpn_train_proposals,
            settings.rpn_test_proposals,
            settings.rpn_anchors_per_image,
        )
        self.sampler = RegionSampler(settings.rois_per_image, settings.roi_positive_fraction)
        self.softmax: CosineSoftmax | None = None
        if settings.crop_loss == "softmax":
            # The system's first weights are the same with and without it.
            with torch.random.fork_rng(devices=[]):
                self.softmax = CosineSoftmax(num_ids, embedding_dim)

    @abstractmethod
    def embed_regions(self, view: View, boxes: list[Tensor]) -> Tensor:
        """Unit embeddings (R, D) of `boxes` in pixels of the batch; gradients reach the network."""

    @abstractmethod
    def detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> dict[str, Tensor]:
        """The named losses of finding people, given the true `boxes` in pixels of the batch."""

    def crop_loss(self, embeddings: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """The system's own identity loss on true boxes, for ``crop_loss = "own"``.

        Raises:
            ModelError: the system has none.
        """
        raise ModelError(
            f"{type(self).__name__} has no identity loss of its own on people cut out; set "
            'crop_loss = "softmax", or crop_iterations = 0'
        )

    def remember(self, embeddings: Tensor, ids: Tensor) -> None:
        """Told of the embeddings (R, D) of the crop stage, to fill the system's memories."""

    def look(self, images: Sequence[Tensor]) -> View:
        """Pictures through the stem."""
        batch = self.transform.to_batch(images)
        return View(list(images), batch, self.stem(batch.tensors))

    def scale(self, view: View, targets: Sequence[Target]) -> tuple[list[Tensor], list[Tensor]]:
        """True boxes in pixels of the batch, and ids, of each picture."""
        boxes, ids = split_targets(targets)
        return self.transform.scale(boxes, view.images, view.batch), ids

    def pool(self, view: View, boxes: list[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """RoIAlign (R, C, h, w) of `boxes` in pixels of the batch, `roi_size` unless told."""
        # RoIAlign has no bfloat16 kernel on every device.
        pooled: Tensor = roi_align(
            view.features.float(),
            boxes,
            size or self.roi_size,
            1.0 / self.stride,
            self.settings.roi_sampling,
            aligned=True,
        )
        return pooled

    def select(self, boxes: Sequence[Tensor], scores: Sequence[Tensor]) -> list[Tensor]:
        """Rows to keep of each picture's `boxes` (R_i, 4) and `scores` (R_i,), best first."""
        limits = self.settings
        return [
            select_detections(b, s, limits.score_threshold, limits.nms_iou, limits.max_detections)
            for b, s in zip(boxes, scores, strict=True)
        ]

    def finish(
        self,
        view: View,
        boxes: Sequence[Tensor],
        scores: Sequence[Tensor],
        embeddings: Sequence[Tensor],
    ) -> list[Detections]:
        """Detections in the pictures' own pixels of boxes in pixels of the batch."""
        unscaled = self.transform.unscale(boxes, view.images, view.batch)
        return [Detections(b, s, e) for b, s, e in zip(unscaled, scores, embeddings, strict=True)]

    def crop_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Loss ``softmax``, or the system's own, on true boxes; detection losses if wanted."""
        view = self.look(images)
        boxes, ids = self.scale(view, targets)
        losses: dict[str, Tensor] = {}
        if self.settings.crop_detection:
            losses = self.detection_losses(view, boxes, ids)
        embeddings = self.embed_regions(view, [self._jitter(b) for b in boxes])
        everyone = torch.cat(ids)
        if self.softmax is None:
            return losses | self.crop_loss(embeddings, everyone)
        if self.training:
            self.remember(embeddings, everyone)
        losses["softmax"] = self.softmax(embeddings, everyone)
        return losses

    def crop_parameters(self) -> list[nn.Parameter]:
        """What `crop_losses` train: everything that is not frozen."""
        return [p for p in self.parameters() if p.requires_grad]

    def _jitter(self, boxes: Tensor) -> Tensor:
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        return boxes + (2.0 * torch.rand_like(boxes) - 1.0) * self.settings.crop_jitter * sides

    @torch.no_grad()
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Embeddings (N_i, D) of given boxes (N_i, 4) in each picture."""
        view = self.look(images)
        scaled = self.transform.scale(boxes, images, view.batch)
        return list(self.embed_regions(view, scaled).split([len(b) for b in boxes]))
