"""OIM: joint detection and identification feature learning for person search (Xiao et al. 2017).

picture -> stem -> shared map -> proposals -> RoIAlign -> head -> average -> three branches:
person or not, box, and a unit embedding trained by online instance matching.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import grid
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.systems.regions import DetectionStep, RegionSettings, SharedHeadSystem


class OIM(SharedHeadSystem):
    """Faster R-CNN with an embedding on each region, trained by `OnlineInstanceMatching`."""

    def __init__(
        self,
        backbone: Backbone,  # the cut network; ResNet-50 in the paper
        num_ids: int,  # labelled identities in the training set
        *,
        embedding_dim: int = 256,  # length of an embedding
        queue_size: int = 5000,  # unlabelled embeddings kept; 5,000 for CUHK-SYSU, 500 for PRW
        oim_momentum: float = 0.5,  # share of the old value in an update of the lookup table
        oim_temperature: float = 1 / 30,  # of the softmax over lookup table and queue
        oim_weight: float = 1.0,  # of the OIM loss in the sum
        oim_min_iou: float = 0.5,  # least IoU with a person's box of the regions in the loss
        embedding_grid: Sequence[int] = (1, 1),  # rows and columns of the average; paper: (1, 1)
        embed_boxes: bool = False,  # embed the final boxes instead of their proposals
        confidence_weighted: bool = False,  # multiply similarity by the gallery detection's score
        regions: RegionSettings = RegionSettings(),  # pictures, proposals, regions and detections
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        self.confidence_weighted = confidence_weighted
        self.embed_boxes, self.oim_min_iou, self.oim_weight = embed_boxes, oim_min_iou, oim_weight
        self.embedding_grid = grid("embedding_grid", embedding_grid)
        self.box_predictor = self.build_box_predictor(backbone)
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
