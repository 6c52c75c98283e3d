"""RDLR: re-ID driven localization refinement (Han et al. 2019).

picture -> detector -> boxes -> ROI transform -> crops of the picture -> a trained, frozen re-ID
network -> re-ID losses. These replace the box regression loss, and their gradient goes through the
crops to the coordinates of the boxes (eq. 4): the detector learns the boxes that the re-ID network
recognises people best in.

Where the paper is silent, the code of its first author decides (github
``nuannuanhcc/maskrcnn-benchmark``, April 2019).
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
from personsearch.detectors.retinanet import RetinaNet
from personsearch.errors import ModelError
from personsearch.losses.proxy_triplet import ProxyNegatives, ProxyTriplet
from personsearch.systems.base import Target, split_targets
from personsearch.systems.pyramids import BlockMaps, PyramidSystem
from personsearch.systems.reid_network import STRONG_BASELINE, ReidNetwork, ReidSettings
from personsearch.systems.roi_transform import roi_transform

REID_LOSSES = {
    "softmax": ("softmax",),
    "proxy_triplet": ("proxy_triplet",),
    "both": ("softmax", "proxy_triplet"),
    "none": (),
}
"""The losses that supervise the boxes (table 5); none for a control of equal length."""


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
        # "softmax", "proxy_triplet" or "both" (table 5); the softmax needs a re-ID
        # network of the same identities. "none" refines nothing
        reid_loss: Literal["softmax", "proxy_triplet", "both", "none"] = "both",
        reid_weight: float = 1.0,  # of these losses in the sum
        keep_box_loss: bool = False,  # keep the box regression loss, which the paper removes
        match_iou: float = 0.0,  # least IoU of a detection with its person; see `labelled`
        crop_size: Sequence[int] = (384, 128),  # height and width of a crop
        proxy_slots: int = 2,  # K of the proxy triplet loss
        proxy_margin: float = 0.5,  # m of the proxy triplet loss
        proxy_negatives: ProxyNegatives = "batch",  # identities of the batch (eq. 5) or "table"
        # what the proxy triplet loss compares: features before the neck as they are, or "unit"
        # embeddings
        proxy_features: Literal["raw", "unit"] = "raw",
        min_size: int = 800,  # shorter side of the detector's pictures; crops are unscaled
        max_size: int = 1333,  # largest longer side
        confidence_weighted: bool = False,  # multiply similarity by the gallery detection's score
        pyramid: PyramidSettings = PUBLISHED,  # the detector's pyramid, losses and detections
        reid: ReidSettings = STRONG_BASELINE,  # the re-ID network
    ) -> None:
        super().__init__(trunk, min_size, max_size)
        if detector not in ("faster_rcnn", "retinanet") or reid_loss not in REID_LOSSES:
            raise ModelError(
                f"detector is {detector!r} and reid_loss {reid_loss!r}; expected 'faster_rcnn' or "
                f"'retinanet', and one of {', '.join(map(repr, REID_LOSSES))}"
            )
        self.reid_losses, self.reid_weight = REID_LOSSES[reid_loss], reid_weight
        self.keep_box_loss, self.match_iou = keep_box_loss, match_iou
        self.crop_size = grid("crop_size", crop_size)
        self.unit_proxies, self.confidence_weighted = proxy_features == "unit", confidence_weighted
        # Both networks start with the weights of the trunk.
        self.reid = ReidNetwork(trunk, num_ids, reid)
        self.embedding_dim = self.reid.embedding_dim
        if detector == "retinanet":
            self.detector = RetinaNet(trunk.channels, pyramid)
        else:
            self.detector = PyramidFasterRCNN(trunk.channels, trunk.strides, pyramid)
        if trunk.detector:
            self.detector.load_published(trunk.detector)
        table = (num_ids, self.embedding_dim, proxy_slots, proxy_margin)
        self.proxies = ProxyTriplet(*table, proxy_negatives)

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return the losses of the refinement: re-ID losses in place of the detector's ``box``.

        These are ``softmax`` and ``proxy_triplet``. ``detection`` or ``focal``, the classification,
        stays, and so do Faster R-CNN's ``rpn_objectness`` and ``rpn_box``, of its proposals.
        """
        maps = self.extract_features(images)
        true, ids = split_targets(targets)
        true = self.transform.scale(true, images, maps.batch)
        # Section 3.2: the detection network, which generates bounding boxes as at search time.
        # True boxes are for its own losses alone.
        found, own = self.detector(maps.batch, maps.maps, true)
        losses: dict[str, Tensor] = {
            k: v for k, v in own.items() if self.keep_box_loss or k != "box"
        }
        if not self.reid_losses:
            return losses
        postprocess: Any = self.detector.postprocess
        boxes = [one.boxes for one in postprocess(found, maps.batch.image_sizes)]
        boxes, samples = self.labelled(boxes, true, ids)
        # Section 3.1, eq. 1 to 3: the ROI transform, which crops them from the raw pictures.
        boxes = self.transform.unscale(boxes, images, maps.batch)
        crops = roi_transform(images, boxes, self.crop_size)
        # Section 3.2, eq. 4: the re-ID network, its parameters fixed.
        with self._fixed():
            features = self.reid(crops)
            reid: dict[str, Tensor] = {}
            if "softmax" in self.reid_losses:
                reid["softmax"] = self.reid.softmax_loss(features, samples)
        # Section 3.3, eq. 5.
        if "proxy_triplet" in self.reid_losses:
            f = nn.functional.normalize(features, dim=1) if self.unit_proxies else features
            reid["proxy_triplet"] = self.proxies(f, samples)
        return losses | {name: self.reid_weight * loss for name, loss in reid.items()}

    def labelled(
        self, detected: Sequence[Tensor], boxes: Sequence[Tensor], ids: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        """Return the detected boxes (K_i, 4) that stand for labelled people, and identities (K,).

        Each labelled person is stood for by the detection that overlaps the true box most, if their
        IoU is at least `match_iou`. True boxes choose; they are not among what is returned.
        """
        chosen, owners = [], []
        for own, b, i in zip(detected, boxes, ids, strict=True):
            b, i = b[i >= 0], i[i >= 0]
            if not len(own) or not len(b):
                chosen.append(own[:0])
                continue
            overlap, row = box_iou(b, own.detach()).max(dim=1)
            near = (overlap > 0) & (overlap >= self.match_iou)
            chosen.append(own[row[near]])
            owners.append(i[near])
        return chosen, torch.cat(owners) if owners else ids[0][:0]

    def embed_detected(self, maps: BlockMaps, boxes: list[Tensor]) -> Tensor:
        unscaled = self.transform.unscale(boxes, maps.images, maps.batch)
        return self.reid.embed(roi_transform(maps.images, unscaled, self.crop_size))

    @torch.no_grad()
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        crops = roi_transform(images, boxes, self.crop_size)
        return split_like(self.reid.embed(crops), boxes)

    def bfloat16_parts(self) -> Sequence[nn.Module]:
        """Return all but the re-ID network, which computes narrow crops in float32."""
        return [self.trunk, self.detector]

    @contextmanager
    def _fixed(self) -> Iterator[None]:
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
