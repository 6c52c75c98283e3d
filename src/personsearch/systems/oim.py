"""OIM: joint detection and identification feature learning for person search (Xiao et al. 2017).

picture -> stem -> shared map -> proposals -> RoIAlign -> head -> average -> three branches:
person or not, box, and a unit embedding trained by online instance matching.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import BoxPredictor, grid
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.regions import DetectionStep, RegionSettings, SharedHeadSystem


class OIM(SharedHeadSystem):
    """Faster R-CNN with an embedding on each region, trained by `OnlineInstanceMatching`.

    Args:
        backbone: the cut network; ResNet-50 in the paper.
        num_ids: labelled identities in the training set.
        embedding_dim: length of an embedding.
        queue_size: unlabelled embeddings in the queue; 5,000 for CUHK-SYSU, 500 for PRW.
        oim_momentum: share of the old value in an update of the lookup table.
        oim_temperature: of the softmax over lookup table and queue.
        oim_weight: of the OIM loss in the sum.
        oim_min_iou: least IoU with a person's box of the regions that are embedded in training.
        embedding_grid: rows and columns that the head's output is averaged over before the
            embedding; (1, 1) is the paper's global average.
        embed_boxes: embed the final boxes instead of the proposals that they are regressed from.
        confidence_weighted: multiply similarity by the gallery detection's score.
        regions: pictures, proposals, regions and detections.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_ids: int,
        *,
        embedding_dim: int = 256,
        queue_size: int = 5000,
        oim_momentum: float = 0.5,
        oim_temperature: float = 1 / 30,
        oim_weight: float = 1.0,
        oim_min_iou: float = 0.5,
        embedding_grid: Sequence[int] = (1, 1),
        embed_boxes: bool = False,
        confidence_weighted: bool = False,
        regions: RegionSettings = RegionSettings(),
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.confidence_weighted = confidence_weighted
        self.embed_boxes, self.oim_min_iou, self.oim_weight = embed_boxes, oim_min_iou, oim_weight
        self.embedding_grid = grid("embedding_grid", embedding_grid)
        self.box_predictor = BoxPredictor(
            backbone.stem_channels if self.detection_apart else backbone.head_channels,
            grid("detection_grid", regions.detection_grid),
            regions.detection_hidden,
        )
        self.embedder = nn.Linear(
            backbone.head_channels * math.prod(self.embedding_grid), embedding_dim
        )
        self.oim = OnlineInstanceMatching(
            num_ids, embedding_dim, queue_size, oim_momentum, oim_temperature
        )

    def embedding(self, output: Tensor) -> Tensor:
        """Return unit embeddings (R, D) of the head's output (R, C', h', w')."""
        averaged = functional.adaptive_avg_pool2d(output, self.embedding_grid).flatten(1)
        return functional.normalize(self.embedder(averaged).float(), dim=1)

    def identity_losses(self, step: DetectionStep[Tensor]) -> dict[str, Tensor]:
        """Return the loss ``oim`` of people's regions."""
        embeddings, person = self.embed_people(step, self.oim_min_iou)
        return self.crop_loss(embeddings, step.regions.ids[person])

    def crop_loss(self, embeddings: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """Return the loss ``oim`` of embeddings (R, D)."""
        return {"oim": self.oim(embeddings, ids) * self.oim_weight}

    def update_memory(self, embeddings: Tensor, ids: Tensor) -> None:
        self.oim.update_memory(embeddings, ids)
