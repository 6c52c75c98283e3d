"""RDLR: re-ID driven localization refinement (Han et al. 2019).

picture -> detector -> boxes -> ROI transform -> crops of the picture -> a trained, frozen re-ID
network -> re-ID losses. These replace the box regression loss, and their gradient goes through the
crops to the coordinates of the boxes (eq. 4): the detector learns the boxes that the re-ID network
recognises people best in.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from personsearch.detectors.backbones import Trunk
from personsearch.detectors.faster_rcnn import grid, split_like
from personsearch.detectors.fpn import PUBLISHED, PyramidFasterRCNN, PyramidSettings
from personsearch.detectors.retinanet import DetectedBoxes, RetinaNet
from personsearch.errors import ModelError
from personsearch.losses.proxy_triplet import ProxyTriplet
from personsearch.systems.base import Target, jitter_boxes, split_targets
from personsearch.systems.pyramids import BlockMaps, PyramidSystem
from personsearch.systems.reid_network import ReidNetwork
from personsearch.systems.roi_transform import roi_transform
from personsearch.types import UNLABELLED

REID_LOSSES = {
    "softmax": ("softmax",),
    "proxy_triplet": ("proxy_triplet",),
    "both": ("softmax", "proxy_triplet"),
}
"""The losses that supervise the boxes (table 5)."""


class RDLR(PyramidSystem):
    """A detector whose boxes a frozen re-ID network supervises.

    Three stages train it: the detector by its own losses, the re-ID network on true boxes, then
    the refinement, which changes the detector alone.

    Raises:
        ModelError: a setting that no network can have.
    """

    def __init__(
        self,
        trunk: Trunk,  # blocks C1 to C5, ResNet-50's in the paper; the two networks share none
        num_ids: int,  # labelled identities in the training set
        *,
        detector: Literal["faster_rcnn", "retinanet"] = "faster_rcnn",  # table 4
        # "softmax", "proxy_triplet" or "both" (table 5). The softmax needs a re-ID
        # network of the same identities.
        reid_loss: Literal["softmax", "proxy_triplet", "both"] = "both",
        reid_weight: float = 1.0,  # of these losses in the sum
        proxy_slots: int = 2,  # K of the proxy triplet loss
        proxy_margin: float = 0.5,  # m of the proxy triplet loss
        match_iou: float = 0.5,  # least IoU of a detection with its person; not given in the paper
        refined_per_image: int = 32,  # the most such detections in a picture, best scores first
        crop_size: Sequence[int] = (256, 128),  # height and width of a crop
        reid_dim: int = 0,  # length of an embedding; 0 takes the average of the last block as it is
        reid_classifier: Literal["linear", "cosine"] = "linear",  # see `ReidNetwork`
        reid_jitter: float = 0.0,  # true boxes' sides move by at most this share in its training
        min_size: int = 800,  # shorter side of the detector's pictures; crops are unscaled
        max_size: int = 1333,  # largest longer side
        confidence_weighted: bool = False,  # multiply similarity by the gallery detection's score
        pyramid: PyramidSettings = PUBLISHED,  # the detector's pyramid, losses and detections
    ) -> None:
        super().__init__(trunk, min_size, max_size)
        if detector not in ("faster_rcnn", "retinanet") or reid_loss not in REID_LOSSES:
            raise ModelError(
                f"detector is {detector!r} and reid_loss {reid_loss!r}; expected 'faster_rcnn' or "
                f"'retinanet', and one of {', '.join(map(repr, REID_LOSSES))}"
            )
        self.reid_losses, self.reid_weight = REID_LOSSES[reid_loss], reid_weight
        self.match_iou, self.refined_per_image = match_iou, refined_per_image
        self.crop_size = grid("crop_size", crop_size)
        self.reid_jitter, self.confidence_weighted = reid_jitter, confidence_weighted
        # Both networks start with the weights of the trunk.
        self.reid = ReidNetwork(trunk, num_ids, reid_dim, reid_classifier)
        self.embedding_dim = self.reid.embedding_dim
        if detector == "retinanet":
            self.detector = RetinaNet(trunk.channels, pyramid)
            if trunk.detector:
                self.detector.load_published(trunk.detector)
        else:
            self.detector = PyramidFasterRCNN(trunk.channels, trunk.strides, pyramid)
        self.proxies = ProxyTriplet(num_ids, self.embedding_dim, proxy_slots, proxy_margin)

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the losses of the refinement: re-ID losses in place of the detector's ``box``.

        These are ``softmax`` and ``proxy_triplet`` of the detections that show a labelled person.
        Faster R-CNN keeps ``rpn_objectness`` and ``rpn_box``, the losses of its proposals.
        """
        maps = self.extract_features(images)
        boxes, ids = split_targets(targets)
        scaled = self.transform.scale(boxes, images, maps.batch)
        predictions, own = self.detector(maps.batch, maps.maps, scaled)
        losses: dict[str, Tensor] = {name: loss for name, loss in own.items() if name != "box"}
        postprocess: Any = self.detector.postprocess
        detected = postprocess(predictions, maps.batch.image_sizes)
        refined, owners = self._matched(detected, scaled, ids)
        crops = roi_transform(
            images, self.transform.unscale(refined, images, maps.batch), self.crop_size
        )
        all_ids = torch.cat(owners)
        with self._frozen():
            features = self.reid(crops)
            if "softmax" in self.reid_losses:
                losses["softmax"] = self.reid_weight * self.reid.softmax_loss(features, all_ids)
        if "proxy_triplet" in self.reid_losses:
            embeddings = nn.functional.normalize(features, dim=1)
            losses["proxy_triplet"] = self.reid_weight * self.proxies(embeddings, all_ids)
        return losses

    def crop_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the loss ``softmax`` of the re-ID network on true boxes: the second stage."""
        boxes, ids = split_targets(targets)
        moved = [jitter_boxes(b, self.reid_jitter) for b in boxes]
        features = self.reid(roi_transform(images, moved, self.crop_size))
        return {"softmax": self.reid.softmax_loss(features, torch.cat(ids))}

    def crop_parameters(self) -> list[nn.Parameter]:
        """Return what the second stage trains."""
        return [p for p in self.reid.parameters() if p.requires_grad]

    def embed_detected(self, maps: BlockMaps, boxes: list[Tensor]) -> Tensor:
        unscaled = self.transform.unscale(boxes, maps.images, maps.batch)
        return self.reid.embed(roi_transform(maps.images, unscaled, self.crop_size))

    @torch.no_grad()
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        crops = roi_transform(images, boxes, self.crop_size)
        return split_like(self.reid.embed(crops), boxes)

    def _matched(
        self, detected: Sequence[DetectedBoxes], boxes: Sequence[Tensor], ids: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return boxes (K_i, 4), with gradient, and identities of detected labelled people."""
        refined, owners = [], []
        for d, b, i in zip(detected, boxes, ids, strict=True):
            if not len(d.boxes) or not len(b):
                refined.append(d.boxes[:0])
                owners.append(i[:0])
                continue
            overlap, row = box_iou(b, d.boxes.detach()).max(dim=0)
            owner = torch.where(overlap >= self.match_iou, i[row], UNLABELLED)
            kept = torch.where(owner >= 0)[0][: self.refined_per_image]
            refined.append(d.boxes[kept])
            owners.append(owner[kept])
        return refined, owners

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Run the re-ID network as at search time: gradients pass through, weights stay."""
        training = self.reid.training
        trained = [p for p in self.reid.parameters() if p.requires_grad]
        self.reid.eval().requires_grad_(False)
        try:
            yield
        finally:
            self.reid.train(training)
            for parameter in trained:
                parameter.requires_grad_(True)
