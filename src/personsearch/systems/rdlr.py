"""RDLR: re-ID driven localization refinement (Han et al. 2019).

picture -> detector -> boxes -> ROI transform -> crops of the picture -> a trained, frozen re-ID
network -> re-ID losses. These replace the box regression loss, and their gradient goes through the
crops to the coordinates of the boxes (eq. 4): the detector learns to cut people out as the re-ID
network wants them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from personsearch.detectors.backbones import IMAGENET_MEAN, IMAGENET_STD, Trunk
from personsearch.detectors.faster_rcnn import PictureTransform, grid
from personsearch.detectors.fpn import PUBLISHED, PyramidFasterRCNN, PyramidSettings
from personsearch.detectors.retinanet import Found, RetinaNet
from personsearch.errors import ModelError
from personsearch.losses.proxy_triplet import ProxyTriplet
from personsearch.systems.base import PersonSearchModel, Target, split_targets
from personsearch.systems.reid_network import ReidNetwork
from personsearch.systems.roi_transform import roi_transform
from personsearch.types import UNLABELLED, Detections

REID_LOSSES = {
    "softmax": ("softmax",),
    "proxy_triplet": ("proxy_triplet",),
    "both": ("softmax", "proxy_triplet"),
}
"""What supervises the boxes (table 5)."""


class RDLR(PersonSearchModel):
    """A detector whose boxes a frozen re-ID network supervises.

    Three steps train it: the detector by its own losses, the re-ID network on true boxes, then
    the refinement, in which the detector alone moves.

    Args:
        trunk: blocks C1 to C5, ResNet-50's in the paper. Detector and re-ID network share none.
        num_ids: labelled identities in the training set.

        detector: ``"faster_rcnn"`` with a pyramid, or ``"retinanet"`` (table 4).
        reid_loss: ``"softmax"``, ``"proxy_triplet"`` or ``"both"`` (table 5). The softmax needs a
            re-ID network of the same identities.
        reid_weight: of these losses in the sum.
        proxy_slots, proxy_margin: K and m of the proxy triplet loss.
        match_iou: detections nearer than this to a labelled person are given that identity; the
            paper does not say.
        refined_per_image: the most of them in a picture, best scores first.
        crop_size: height and width of a crop.
        reid_dim: length of an embedding; 0 takes the average of the last block as it is.
        reid_grid: rows and columns that this block's output is averaged over.
        reid_classifier: ``"linear"`` or ``"cosine"``.
        reid_jitter: how far the sides of true boxes are moved at the most while the re-ID network
            is trained, as a part of the box's size.
        min_size, max_size: the picture is scaled to this shorter side, within this longer side,
            for the detector. Crops are of the picture as it came.
        confidence_weighted: multiply similarity by the gallery detection's score.
        pyramid: the detector's pyramid, anchors, losses and detections.

    Raises:
        ModelError: a setting that no network can have.
    """

    def __init__(
        self,
        trunk: Trunk,
        num_ids: int,
        *,
        detector: Literal["faster_rcnn", "retinanet"] = "faster_rcnn",
        reid_loss: Literal["softmax", "proxy_triplet", "both"] = "both",
        reid_weight: float = 1.0,
        proxy_slots: int = 2,
        proxy_margin: float = 0.5,
        match_iou: float = 0.5,
        refined_per_image: int = 32,
        crop_size: Sequence[int] = (256, 128),
        reid_dim: int = 0,
        reid_grid: Sequence[int] = (1, 1),
        reid_classifier: Literal["linear", "cosine"] = "linear",
        reid_jitter: float = 0.0,
        min_size: int = 800,
        max_size: int = 1333,
        confidence_weighted: bool = False,
        pyramid: PyramidSettings = PUBLISHED,
    ) -> None:
        super().__init__()
        if detector not in ("faster_rcnn", "retinanet") or reid_loss not in REID_LOSSES:
            raise ModelError(
                f"detector is {detector!r} and reid_loss {reid_loss!r}; expected 'faster_rcnn' or "
                f"'retinanet', and one of {', '.join(map(repr, REID_LOSSES))}"
            )
        self.reid_losses, self.reid_weight = REID_LOSSES[reid_loss], reid_weight
        self.match_iou, self.refined_per_image = match_iou, refined_per_image
        self.crop_size = grid("crop_size", crop_size)
        self.reid_jitter, self.confidence_weighted = reid_jitter, confidence_weighted
        self.transform = PictureTransform(min_size, max_size, IMAGENET_MEAN, IMAGENET_STD)
        # Both networks begin with the weights of the trunk, and go apart from there.
        self.reid = ReidNetwork(deepcopy(trunk), num_ids, reid_dim, reid_grid, reid_classifier)
        self.embedding_dim = self.reid.embedding_dim
        self.trunk = trunk.blocks
        self.detector: PyramidFasterRCNN | RetinaNet
        if detector == "retinanet":
            self.detector = RetinaNet(trunk.channels, pyramid)
            if trunk.detector:
                self.detector.load_published(trunk.detector)
        else:
            self.detector = PyramidFasterRCNN(trunk.channels, trunk.strides, pyramid)
        self.proxies = ProxyTriplet(num_ids, self.embedding_dim, proxy_slots, proxy_margin)

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """The refinement: the detector's losses without ``box``, which the re-ID losses replace.

        These are ``softmax`` and ``proxy_triplet`` of the detections that show a labelled person.
        Of Faster R-CNN, ``rpn_objectness`` and ``rpn_box`` stay: they are of the proposals.
        """
        batch, maps = self._look(images)
        boxes, ids = split_targets(targets)
        scaled = self.transform.scale(boxes, images, batch)
        predictions, own = self.detector(batch, maps, scaled)
        losses: dict[str, Tensor] = {name: loss for name, loss in own.items() if name != "box"}
        found = self._find(predictions, batch)
        refined, owners = self._matched(found, scaled, ids)
        crops = roi_transform(
            images, self.transform.unscale(refined, images, batch), self.crop_size
        )
        everyone = torch.cat(owners)
        with self._frozen():
            features = self.reid(crops)
            if "softmax" in self.reid_losses:
                losses["softmax"] = self.reid_weight * self.reid.softmax_loss(features, everyone)
        if "proxy_triplet" in self.reid_losses:
            embeddings = nn.functional.normalize(features, dim=1)
            losses["proxy_triplet"] = self.reid_weight * self.proxies(embeddings, everyone)
        return losses

    def detection_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """The detector's own losses, box regression among them: all of the first step."""
        batch, maps = self._look(images)
        boxes = self.transform.scale(split_targets(targets)[0], images, batch)
        losses: dict[str, Tensor] = self.detector(batch, maps, boxes)[1]
        return losses

    def detection_parameters(self) -> list[nn.Parameter]:
        """What the first and the last step train: trunk, pyramid and heads."""
        parts = (self.trunk, self.detector)
        return [p for part in parts for p in part.parameters() if p.requires_grad]

    def crop_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Loss ``softmax`` of the re-ID network on true boxes: all of the second step."""
        boxes, ids = split_targets(targets)
        moved = [self._jitter(b) for b in boxes]
        features = self.reid(roi_transform(images, moved, self.crop_size))
        return {"softmax": self.reid.softmax_loss(features, torch.cat(ids))}

    def crop_parameters(self) -> list[nn.Parameter]:
        """What the second step trains."""
        return [p for p in self.reid.parameters() if p.requires_grad]

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Everyone in each picture, boxes in the picture's pixels, by descending score."""
        batch, maps = self._look(images)
        predictions, _ = self.detector(batch, maps)
        found = self._find(predictions, batch)
        boxes = self.transform.unscale([f.boxes for f in found], images, batch)
        embeddings = self.embed(images, boxes)
        return [
            Detections(b, f.scores, e) for b, f, e in zip(boxes, found, embeddings, strict=True)
        ]

    @torch.no_grad()
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Embeddings (N_i, D) of given boxes (N_i, 4) in each picture."""
        crops = roi_transform(images, boxes, self.crop_size)
        return list(self.reid.embed(crops).split([len(b) for b in boxes]))

    def _look(self, images: Sequence[Tensor]) -> tuple[ImageList, dict[str, Tensor]]:
        batch = self.transform.to_batch(images)
        maps, x = {}, batch.tensors
        for name, block in self.trunk.items():
            maps[name] = x = block(x)
        return batch, maps

    def _find(self, predictions: object, batch: ImageList) -> list[Found]:
        # Each detector finds people in its own predictions.
        find: list[Found] = self.detector.find(predictions, batch.image_sizes)  # type: ignore[arg-type]
        return find

    def _matched(
        self, found: Sequence[Found], boxes: Sequence[Tensor], ids: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes (K_i, 4) with gradient, and identities, of detections of labelled people."""
        refined, owners = [], []
        for f, b, i in zip(found, boxes, ids, strict=True):
            if not len(f.boxes) or not len(b):
                refined.append(f.boxes[:0])
                owners.append(i[:0])
                continue
            overlap, row = box_iou(b, f.boxes.detach()).max(dim=0)
            owner = torch.where(overlap >= self.match_iou, i[row], UNLABELLED)
            kept = torch.where(owner >= 0)[0][: self.refined_per_image]
            refined.append(f.boxes[kept])
            owners.append(owner[kept])
        return refined, owners

    def _jitter(self, boxes: Tensor) -> Tensor:
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        return boxes + (2.0 * torch.rand_like(boxes) - 1.0) * self.reid_jitter * sides

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """The re-ID network as it is at search time; gradients pass through, and move nothing."""
        training = self.reid.training
        trained = [p for p in self.reid.parameters() if p.requires_grad]
        self.reid.eval().requires_grad_(False)
        try:
            yield
        finally:
            self.reid.train(training)
            for parameter in trained:
                parameter.requires_grad_(True)
