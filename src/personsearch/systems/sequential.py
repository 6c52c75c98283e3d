"""Sequential: person search trained task by task on aggregated data (Loesch et al. 2019).

picture -> shared blocks -> remaining blocks, pyramid, anchors: people
                        \\-> RoI pooling -> copies of the remaining blocks, average: embeddings

Two steps train it: detection, on pictures with boxes; then the copies, on pooled features that the
first step's network gives once and for all. Nothing flows back into the shared blocks.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align, roi_pool

from personsearch.detectors.backbones import IMAGENET_MEAN, IMAGENET_STD, Trunk
from personsearch.detectors.faster_rcnn import PictureTransform, grid
from personsearch.detectors.retinanet import PUBLISHED, RetinaNet, RetinaNetSettings
from personsearch.errors import ModelError
from personsearch.losses.mining import batch_hard, semi_hard
from personsearch.losses.triplet import triplet_loss
from personsearch.systems.base import PersonSearchModel, Target, split_targets
from personsearch.types import Detections

SHARED = {
    "J2": ("C1", "C2"),
    "J3": ("C1", "C2", "C3"),
    "J4": ("C1", "C2", "C3", "C4"),
    "disjoint": (),
}
"""The blocks that detection and re-identification share (figure 1)."""


@dataclass(frozen=True)
class _View:
    """Pictures as they came and as one batch, and the output of each block by name."""

    images: list[Tensor]
    batch: ImageList
    maps: dict[str, Tensor]


class Sequential(PersonSearchModel):
    """RetinaNet with a re-identification branch on its shared map, or beside it.

    Args:
        trunk: blocks C1 to C5; ResNet-50's in the paper. Each branch begins with its weights.
        num_ids: labelled identities in the training set; triplets need no number of them.

        sharing: ``"J2"``, ``"J3"`` or ``"J4"``, the last block that both branches share; or
            ``"disjoint"``, RetinaNet and then a whole network on crops of the picture, the pair
            that the paper compares with.
        min_size, max_size: the picture is scaled to this shorter side, within this longer side.
        region_size: height and width, in pixels, that a person is seen at: the pooled map has
            this size over the stride of the shared map, so that J2, J3 and J4 end with a map of
            one size, as their times in table 1b say. Each at least the stride.
        region_pooling: ``"max"``, the paper's RoI pooling, or ``"align"``, RoIAlign.
        crop_size: height and width of a crop of the disjoint pair.
        embedding_grid: rows and columns that the last block's output is averaged over; (1, 1) is
            the paper's global average.
        margin: of the triplet loss.
        confidence_weighted: multiply similarity by the gallery detection's score.
        detector: pyramid, anchors, losses and detections.

    Attributes:
        trunk: the detector's blocks.
        detector: what stands on them.
        branch: the re-identification branch, copies of the blocks that are not shared.
        shared: the names of those that are.

    Raises:
        ModelError: a setting that no network can have.
    """

    def __init__(
        self,
        trunk: Trunk,
        num_ids: int,
        *,
        sharing: Literal["J2", "J3", "J4", "disjoint"] = "J3",
        min_size: int = 640,
        max_size: int = 640,
        region_size: Sequence[int] = (128, 64),
        region_pooling: Literal["max", "align"] = "max",
        crop_size: Sequence[int] = (256, 128),
        embedding_grid: Sequence[int] = (1, 1),
        margin: float = 0.3,
        confidence_weighted: bool = False,
        detector: RetinaNetSettings = PUBLISHED,
    ) -> None:
        super().__init__()
        if sharing not in SHARED:
            raise ModelError(
                f"sharing is {sharing!r}, expected one of {', '.join(map(repr, SHARED))}"
            )
        self.sharing, self.shared = sharing, SHARED[sharing]
        self.confidence_weighted = confidence_weighted
        self.margin, self.region_pooling = margin, region_pooling
        self.embedding_grid = grid("embedding_grid", embedding_grid)
        self.embedding_dim = trunk.channels["C5"] * math.prod(self.embedding_grid)
        self.crop_size = grid("crop_size", crop_size)
        self.stride = trunk.strides[self.shared[-1]] if self.shared else 1
        height, width = (side // self.stride for side in grid("region_size", region_size))
        if min(height, width) < 1:
            raise ModelError(
                f"region_size is {list(region_size)}, the map that {sharing} shares has a cell "
                f"every {self.stride} pixels; expected at least one cell a side"
            )
        self.region_grid = (height, width)
        self.transform = PictureTransform(min_size, max_size, IMAGENET_MEAN, IMAGENET_STD)
        self.trunk = trunk.blocks
        self.branch = nn.ModuleDict(
            {
                name: deepcopy(block)
                for name, block in trunk.blocks.items()
                if name not in self.shared
            }
        )
        self.detector = RetinaNet(trunk.channels, detector)
        if trunk.detector:
            self.detector.load_published(trunk.detector)

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses ``focal``, ``box`` and ``triplet`` (batch-hard): the objective L_det + L_reid.

        The two steps minimise the same terms one after the other. Here, too, the gradient of
        ``triplet`` ends where the shared blocks do.
        """
        view = self._look(images)
        boxes, ids = split_targets(targets)
        scaled = self.transform.scale(boxes, images, view.batch)
        losses: dict[str, Tensor] = self.detector(view.batch, view.maps, scaled)[1]
        with torch.no_grad():
            features = self._pool(view, scaled)
        return losses | self.identity_losses(features, torch.cat(ids))

    def detection_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses ``focal`` and ``box``, L_det: all that the first step minimises."""
        view = self._look(images)
        boxes = self.transform.scale(split_targets(targets)[0], images, view.batch)
        losses: dict[str, Tensor] = self.detector(view.batch, view.maps, boxes)[1]
        return losses

    def detection_parameters(self) -> list[nn.Parameter]:
        """What the first step trains: trunk, pyramid and head."""
        parts = (self.trunk, self.detector)
        return [p for part in parts for p in part.parameters() if p.requires_grad]

    def identity_losses(
        self,
        features: Tensor,
        ids: Tensor,
        mining: Literal["semi-hard", "batch-hard"] = "batch-hard",
    ) -> dict[str, Tensor]:
        """Loss ``triplet``, L_reid: all that the second step minimises.

        Args:
            features: (R, C, h, w) as `features` gives them.
            ids: (R,) int64.
            mining: which triplets of the batch count.
        """
        embeddings = self.embed_features(features)
        triplets = (
            semi_hard(embeddings, ids, self.margin)
            if mining == "semi-hard"
            else batch_hard(embeddings, ids)
        )
        return {"triplet": triplet_loss(embeddings, triplets, self.margin)}

    @torch.no_grad()
    def features(self, images: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """What the re-identification branch reads, float32: pooled shared features, or crops.

        Args:
            images: (3, H, W) each.
            boxes: (N_i, 4) in each picture's pixels.

        Returns:
            (R, C, h, w), the boxes of picture 0 first.
        """
        if not self.shared:
            return self._crops(images, boxes)
        view = self._look(images, self.shared[-1])
        return self._pool(view, self.transform.scale(boxes, images, view.batch))

    def feature_state(self) -> dict[str, Tensor]:
        """The tensors that `features` depends on: those of the shared blocks."""
        return {
            f"{name}.{key}": value
            for name in self.shared
            for key, value in self.trunk[name].state_dict().items()
        }

    def embed_features(self, features: Tensor) -> Tensor:
        """Unit embeddings (R, D) of `features` (R, C, h, w)."""
        if not len(features):
            return features.new_zeros((0, self.embedding_dim))
        for block in self.branch.values():
            features = block(features)
        averaged = functional.adaptive_avg_pool2d(features.float(), self.embedding_grid).flatten(1)
        return functional.normalize(averaged, dim=1)

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Everyone in each picture, boxes in the picture's pixels, by descending score."""
        view = self._look(images)
        predictions, _ = self.detector(view.batch, view.maps)
        found = self.detector.find(predictions, view.batch.image_sizes)
        boxes = [f.boxes for f in found]
        embeddings = self.embed_features(self._pool(view, boxes)).split([len(b) for b in boxes])
        unscaled = self.transform.unscale(boxes, images, view.batch)
        return [
            Detections(b, f.scores, e) for b, f, e in zip(unscaled, found, embeddings, strict=True)
        ]

    @torch.no_grad()
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Embeddings (N_i, D) of given boxes (N_i, 4) in each picture."""
        embeddings = self.embed_features(self.features(images, boxes))
        return list(embeddings.split([len(b) for b in boxes]))

    def _look(self, images: Sequence[Tensor], last: str = "C5") -> _View:
        """Pictures through the trunk, up to the block `last`."""
        batch = self.transform.to_batch(images)
        maps, x = {}, batch.tensors
        for name, block in self.trunk.items():
            maps[name] = x = block(x)
            if name == last:
                break
        return _View(list(images), batch, maps)

    def _pool(self, view: _View, boxes: Sequence[Tensor]) -> Tensor:
        """What the branch reads (R, C, h, w) of `boxes` in pixels of the batch."""
        if not self.shared:
            return self._crops(view.images, self.transform.unscale(boxes, view.images, view.batch))
        # Neither pooling has a bfloat16 kernel on every device.
        features, scale = view.maps[self.shared[-1]].float(), 1.0 / self.stride
        rows = [b.float() for b in boxes]
        pooled: Tensor = (
            roi_pool(features, rows, self.region_grid, scale)
            if self.region_pooling == "max"
            else roi_align(features, rows, self.region_grid, scale, 2, aligned=True)
        )
        return pooled

    def _crops(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Normalised crops (R, 3, h, w) of `boxes` in the pictures' own pixels."""
        crops = [
            # Each cell averages all the pixels that it stands for.
            roi_align(
                self.transform.normalize(image)[None], [b.float()], self.crop_size, aligned=True
            )
            for image, b in zip(images, boxes, strict=True)
        ]
        return torch.cat(crops)
