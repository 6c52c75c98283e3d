"""Xiao 2016 as version 0.1 built it, so that its checkpoints detect and embed as they did."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.detectors.faster_rcnn import BoxPredictor, Pooling, Proposals, split_like
from personsearch.errors import ModelError
from personsearch.systems.base import Metric, Target
from personsearch.systems.regions import RegionFeatures, RegionSettings, RegionSystem
from personsearch.systems.xiao2016 import PAPER_REGIONS, Xiao2016


class Xiao2016Before(Xiao2016):
    """Unit embeddings without a ReLU, compared by cosines; other scores. Not trained any more."""

    metric: Metric = "cosine"
    py_faster_rcnn = False

    def __init__(
        self,
        backbone: Backbone,
        num_ids: int,
        *,
        embedding_dim: int = 256,
        roi_pooling: Pooling = "max",
        identity_scale: float = 0.0,  # above 0 the softmax read cosines times this
        detection_score: Literal["proposal", "identity", "classifier"] = "proposal",
        embed_boxes: bool = False,
        confidence_weighted: bool = False,
        regions: RegionSettings = PAPER_REGIONS,
    ) -> None:
        super().__init__(
            backbone,
            num_ids,
            embedding_dim=embedding_dim,
            roi_pooling=roi_pooling,
            embed_boxes=embed_boxes,
            regions=regions,
        )
        self.confidence_weighted = confidence_weighted
        self.identity_scale, self.detection_score = identity_scale, detection_score
        self.classifier = nn.Linear(embedding_dim, num_ids + 1, bias=not identity_scale)
        if detection_score == "classifier":
            self.box_predictor = BoxPredictor(backbone.detection_channels)

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Raise a `ModelError`: the network of today is trained instead."""
        raise ModelError(
            "a network of xiao2016 of version 0.1 is not trained any more; train today's recipe"
        )

    def run_fc8(self, features: RegionFeatures) -> Tensor:
        """Return fc8 (R, D), of any sign."""
        fc8: Tensor = self.fc8(self.average(features))
        return fc8

    def embed_features(self, features: RegionFeatures) -> Tensor:
        """Return unit embeddings (R, D) of regions."""
        return functional.normalize(super().embed_features(features), dim=1)

    def score(
        self, features: RegionFeatures, logits: Tensor, proposals: Proposals
    ) -> Sequence[Tensor]:
        """Return the scores that `detection_score` names."""
        if self.detection_score == "proposal":
            return proposals.scores
        if self.detection_score == "classifier":
            return RegionSystem.score(self, features, logits, proposals)
        fc8 = self.run_fc8(features)
        if self.identity_scale:
            directions = functional.normalize(self.classifier.weight, dim=1)
            scores = self.identity_scale * functional.normalize(fc8, dim=1) @ directions.t()
        else:
            scores = self.classifier(fc8)
        return split_like(1.0 - scores.float().softmax(dim=1)[:, -1], proposals.boxes)
