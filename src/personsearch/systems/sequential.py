"""Sequential: person search trained task by task on aggregated data (Loesch et al. 2019).

picture -> shared blocks -> remaining blocks, pyramid, anchors: people
                        \\-> RoI pooling -> copies of the remaining blocks, average: embeddings

Two stages train it: detection, on pictures with boxes; then the copies, on pooled features that the
network of the first stage computes once. No gradient flows back into the shared blocks.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from personsearch.detectors.backbones import Trunk
from personsearch.detectors.faster_rcnn import Pooling, RegionPooling, grid, split_like
from personsearch.detectors.retinanet import PUBLISHED, RetinaNet, RetinaNetSettings
from personsearch.distributed import join
from personsearch.errors import ModelError
from personsearch.losses.mining import batch_hard, semi_hard
from personsearch.losses.triplet import triplet_loss
from personsearch.systems.base import Target, split_targets
from personsearch.systems.pyramids import BlockMaps, PyramidSystem

SHARED = {
    "J2": ("C1", "C2"),
    "J3": ("C1", "C2", "C3"),
    "J4": ("C1", "C2", "C3", "C4"),
    "disjoint": (),
}
"""The blocks that detection and re-identification share (figure 1)."""


class Sequential(PyramidSystem):
    """RetinaNet with a re-identification branch on its shared map, or beside it.

    Raises:
        ModelError: a setting that no network can have.
    """

    def __init__(
        self,
        trunk: Trunk,  # blocks C1 to C5; ResNet-50's in the paper. Each branch starts with it
        num_ids: int,  # labelled identities in the training set; unused by triplets
        *,
        # "J2", "J3" or "J4", the last block that both branches share; or
        # "disjoint", RetinaNet and then a whole network on crops of the picture, the pair that
        # the paper compares with
        sharing: Literal["J2", "J3", "J4", "disjoint"] = "J3",
        # Pictures are stretched to max_size wide and min_size high. Without `stretch` they keep
        # their proportions: the shorter side becomes min_size, the longer at most max_size.
        min_size: int = 640,
        max_size: int = 640,
        stretch: bool = True,
        # height and width of a region in pixels, each at least the stride: the pooled map has this
        # size over the stride of the shared map, so that J2, J3 and J4 end with maps of one size,
        # as their times in table 1b imply
        region_size: Sequence[int] = (128, 64),
        region_pooling: Pooling = "max",  # the paper's RoI pooling, or RoIAlign
        crop_size: Sequence[int] = (256, 128),  # height and width of a crop of the disjoint pair
        margin: float = 0.3,  # of batch-hard triplets, on distances; not given in the paper
        semi_hard_margin: float = 1.0,  # of semi-hard ones, on squared distances; TensorFlow's
        confidence_weighted: bool = False,  # multiply similarity by the gallery detection's score
        detector: RetinaNetSettings = PUBLISHED,  # pyramid, anchors, losses and detections
    ) -> None:
        super().__init__(trunk, min_size, max_size, stretch)
        if sharing not in SHARED:
            raise ModelError(
                f"sharing is {sharing!r}, expected one of {', '.join(map(repr, SHARED))}"
            )
        self.sharing, self.shared = sharing, SHARED[sharing]
        self.confidence_weighted = confidence_weighted
        self.margin, self.semi_hard_margin = margin, semi_hard_margin
        self.region_pooling = region_pooling
        self.cells = trunk.cells
        self.embedding_dim = trunk.channels["C5"] * math.prod(self.cells)
        self.crop_size = grid("crop_size", crop_size)
        self.stride = trunk.strides[self.shared[-1]] if self.shared else 1
        height, width = (side // self.stride for side in grid("region_size", region_size))
        if min(height, width) < 1:
            raise ModelError(
                f"region_size is {list(region_size)}, the map that {sharing} shares has a cell "
                f"every {self.stride} pixels; expected at least one cell a side"
            )
        self.region_grid = (height, width)
        self.branch = trunk.copies(first=f"C{len(self.shared) + 1}")
        self.detector = RetinaNet(trunk.channels, detector)
        if trunk.detector:
            self.detector.load_published(trunk.detector)

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return ``focal``, ``box`` and ``triplet`` (batch-hard): the objective L_det + L_reid.

        The two stages minimise the same terms one after the other. Here, too, the gradient of
        ``triplet`` ends at the shared blocks.
        """
        maps = self.extract_features(images)
        boxes, ids = split_targets(targets)
        scaled = self.transform.scale(boxes, images, maps.batch)
        losses: dict[str, Tensor] = self.detector(maps.batch, maps.maps, scaled)[1]
        with torch.no_grad():
            features = self._pool(maps, scaled)
        return losses | self.identity_losses(features, torch.cat(ids))

    def identity_losses(
        self,
        features: Tensor,  # (R, C, h, w) as `features` returns them
        ids: Tensor,  # (R,) int64
        # how triplets of the batch are chosen
        mining: Literal["semi-hard", "batch-hard"] = "batch-hard",
    ) -> dict[str, Tensor]:
        """Return the loss ``triplet``, L_reid: all of the second stage.

        Triplets are chosen among the samples of all processes.
        """
        x, ids = join(self.embed_features(features), ids)
        if mining == "semi-hard":
            loss = triplet_loss(x, semi_hard(x, ids), self.semi_hard_margin, squared=True)
        else:
            loss = triplet_loss(x, batch_hard(x, ids), self.margin)
        return {"triplet": loss}

    @torch.no_grad()
    def features(self, images: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Return the branch's input (R, C, h, w), float32: pooled shared features, or crops."""
        if not self.shared:
            return self._crops(images, boxes)
        maps = self.extract_features(images, self.shared[-1])
        return self._pool(maps, self.transform.scale(boxes, images, maps.batch))

    def feature_state(self) -> dict[str, Tensor]:
        """Return the tensors that `features` depends on: those of the shared blocks."""
        return {
            f"{name}.{key}": value
            for name in self.shared
            for key, value in self.trunk[name].state_dict().items()
        }

    def embed_features(self, features: Tensor) -> Tensor:
        if not len(features):
            return features.new_zeros((0, self.embedding_dim))
        for block in self.branch.values():
            features = block(features)
        averaged = functional.adaptive_avg_pool2d(features.float(), self.cells).flatten(1)
        return functional.normalize(averaged, dim=1)

    def embed_detected(self, maps: BlockMaps, boxes: list[Tensor]) -> Tensor:
        return self.embed_features(self._pool(maps, boxes))

    @torch.no_grad()
    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        return split_like(self.embed_features(self.features(images, boxes)), boxes)

    def _pool(self, maps: BlockMaps, boxes: Sequence[Tensor]) -> Tensor:
        """Return the input of the branch (R, C, h, w) for `boxes` in pixels of the batch."""
        if not self.shared:
            return self._crops(maps.images, self.transform.unscale(boxes, maps.images, maps.batch))
        features = maps.maps[self.shared[-1]]
        return RegionPooling(boxes, self.region_grid, self.stride, self.region_pooling)(features)

    def _crops(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Return normalised crops (R, 3, h, w) of `boxes` in the pictures' own pixels."""
        crops = [
            # Without sampling_ratio, each cell averages all the pixels in it.
            roi_align(
                self.transform.normalize(image)[None], [b.float()], self.crop_size, aligned=True
            )
            for image, b in zip(images, boxes, strict=True)
        ]
        return torch.cat(crops)
