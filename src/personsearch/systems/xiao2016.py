"""End-to-end deep learning for person search (Xiao et al. 2016, section 4).

picture -> conv1-conv5 -> proposals -> RoI pooling -> fc6, fc7 -> box
                                                            fc7 -> fc8 -> one of C ids or background
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_pool

from personsearch.detectors.backbones import Backbone, published_weights, read_weights
from personsearch.detectors.faster_rcnn import (
    BoxPredictor,
    ProposalNetwork,
    SampledRegions,
    decode_boxes,
    detection_losses,
    grid,
)
from personsearch.errors import ModelError
from personsearch.losses.rss import random_sampling_softmax
from personsearch.losses.softmax import softmax_loss
from personsearch.systems.base import Target
from personsearch.systems.inet import fully_connected
from personsearch.systems.regions import RegionSettings, RegionSystem, View
from personsearch.types import BACKGROUND, UNLABELLED, Detections

PAPER_REGIONS = RegionSettings(anchor_sizes=(128, 256, 512), roi_size=(7, 7))
"""Nine anchors a cell (section 4.1), and the size of VGG16's last pooling."""


class Xiao2016(RegionSystem):
    """Faster R-CNN whose second step tells identities and background apart.

    The paper has four losses: two on proposals, one on boxes and the identity softmax; nothing in
    the second step says person or not. So what a region is ranked by is its proposal's score, "for
    each confident candidate box", and background is one more class of the identity softmax, which
    moves false alarms away from people (section 4.2). People without an identity are of no class
    and are left out of it.

    Args:
        backbone: the cut network; VGG16 in the paper.
        num_ids: C, labelled identities in the training set.

        embedding_dim: width of fc8.
        hidden: width of fc6 and fc7, which follow the backbone's head; 0 has none.
        fc_weights: ``"none"``, ``"imagenet"`` (fc6 and fc7 of the published VGG16, fetched once) or
            the path of a file with its state dictionary.
        embedding_grid: rows and columns that the head's output is averaged over before fc6.
        roi_pooling: ``"max"`` is RoI pooling as in the paper, ``"align"`` is RoIAlign.
        identity_loss: ``"rss"`` (eq. 2) or ``"softmax"`` (eq. 1), on whole pictures.
        rss_sampled: K of RSS.
        identity_weight: of the identity loss in the sum.
        identity_scale: at 0 the softmax reads scores ``w_j . fc8 + b_j`` as in the paper; above, it
            reads cosines of w_j and fc8 times this.
        reid_min_iou: people's regions nearer than this to the person's box are classified in
            training; those in between are left out.
        detection_score: what a detection is ranked by: the ``"proposal"``'s probability, as in the
            paper, one minus the softmax's probability of background (``"identity"``), or a
            ``"classifier"`` of person and background beside the box regression.
        embed_boxes: embed the final boxes instead of the proposals that they come from; queries
            are embedded on their boxes either way.
        confidence_weighted: multiply similarity by the gallery detection's score.
        regions: pictures, proposals, regions and detections.

    Raises:
        ModelError: settings that contradict each other, or weights that do not fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_ids: int,
        *,
        embedding_dim: int = 256,
        hidden: int = 4096,
        fc_weights: str = "none",
        embedding_grid: Sequence[int] = (7, 7),
        roi_pooling: Literal["max", "align"] = "max",
        identity_loss: Literal["rss", "softmax"] = "rss",
        rss_sampled: int = 100,
        identity_weight: float = 1.0,
        identity_scale: float = 0.0,
        reid_min_iou: float = 0.5,
        detection_score: Literal["proposal", "identity", "classifier"] = "proposal",
        embed_boxes: bool = False,
        confidence_weighted: bool = False,
        regions: RegionSettings = PAPER_REGIONS,
    ) -> None:
        super().__init__(backbone, num_ids, embedding_dim, regions)
        if rss_sampled < 2:
            raise ModelError(
                f"rss_sampled is {rss_sampled}, expected at least 2: the label and the background"
            )
        if regions.detection_hidden and detection_score != "classifier":
            raise ModelError(
                f"detection_hidden is {regions.detection_hidden}, but with detection_score "
                f"{detection_score!r} boxes are read off fc7; set detection_hidden = 0 or "
                "detection_score = 'classifier'"
            )
        self.num_ids, self.confidence_weighted = num_ids, confidence_weighted
        self.roi_pooling, self.embed_boxes = roi_pooling, embed_boxes
        self.identity_loss, self.rss_sampled = identity_loss, rss_sampled
        self.identity_weight, self.identity_scale = identity_weight, identity_scale
        self.reid_min_iou, self.detection_score = reid_min_iou, detection_score
        self.proposals = ScoredProposals(
            backbone.stem_channels,
            regions.anchor_sizes,
            regions.aspect_ratios,
            regions.rpn_train_proposals,
            regions.rpn_test_proposals,
            regions.rpn_anchors_per_image,
        )
        self.embedding_grid = grid("embedding_grid", embedding_grid)
        self.fc6_7, width = fully_connected(
            backbone.head_channels * math.prod(self.embedding_grid), hidden
        )
        if fc_weights != "none":
            load_fully_connected(self.fc6_7, fc_weights)
        self.fc8 = nn.Linear(width, embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_ids + 1, bias=identity_scale == 0)
        self.detection_apart = regions.detection_hidden > 0
        self.box_predictor: BoxPredictor | BoxRegressor
        if detection_score != "classifier":
            self.box_predictor = BoxRegressor(width)
        elif self.detection_apart:
            self.box_predictor = BoxPredictor(
                backbone.stem_channels,
                grid("detection_grid", regions.detection_grid),
                regions.detection_hidden,
            )
        else:
            self.box_predictor = BoxPredictor(width)

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses ``rpn_objectness``, ``rpn_box``, ``box`` and ``identity``; ``detection`` where a
        classifier scores.
        """
        view = self.look(images)
        boxes, ids = self.scale(view, targets)
        losses, regions, seen = self._detection_losses(view, boxes, ids)
        fc8 = self.fc8(self._read(seen) if self.detection_apart else seen)
        losses["identity"] = self._identity_loss(fc8, self.classes(regions))
        return losses

    def classes(self, regions: SampledRegions) -> Tensor:
        """(R,) what the softmax should say of each region; negative where it should not be asked.

        That is of people without an identity, and too far from the person's box.
        """
        classes = torch.where(regions.foreground, regions.ids, self.num_ids)
        return classes.masked_fill(
            regions.foreground & (regions.ious < self.reid_min_iou), UNLABELLED
        )

    def detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> dict[str, Tensor]:
        """The losses of proposals and boxes, and ``detection`` where a classifier scores."""
        return self._detection_losses(view, boxes, ids)[0]

    def _detection_losses(
        self, view: View, boxes: list[Tensor], ids: list[Tensor]
    ) -> tuple[dict[str, Tensor], SampledRegions, Tensor]:
        """The detection losses, the regions that they are of, and what was read of these.

        That is what was pooled where detection stands apart, else the output of fc7. Regions are
        drawn without gradient: nothing that is read of them reaches their coordinates (footnote 2).
        """
        proposals, losses = self.proposals(view.batch, view.features, boxes)
        regions = self.sampler(proposals, boxes, ids)
        seen = self.pool(view, regions.boxes)
        if not self.detection_apart:
            seen = self._read(seen)
        losses |= detection_losses(*self._predict(seen), regions)
        if self.detection_score != "classifier":
            del losses["detection"]
        weight = self.settings.detection_weight
        return {name: loss * weight for name, loss in losses.items()}, regions, seen

    def pool(self, view: View, boxes: list[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Regions (R, C, h, w) of `boxes` in pixels of the batch, pooled as asked."""
        if self.roi_pooling == "align":
            return super().pool(view, boxes, size)
        pooled: Tensor = roi_pool(
            view.features.float(), boxes, size or self.roi_size, 1.0 / self.stride
        )
        return pooled

    def _read(self, pooled: Tensor) -> Tensor:
        """The output (R, W) of fc7 for what was pooled."""
        averaged = functional.adaptive_avg_pool2d(self.head(pooled), self.embedding_grid)
        read: Tensor = self.fc6_7(averaged.flatten(1))
        return read

    def _predict(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and box deltas of what was pooled, or of the output of fc7."""
        logits, deltas = self.box_predictor(seen if self.detection_apart else seen[..., None, None])
        return logits, deltas

    def _logits(self, fc8: Tensor) -> Tensor:
        """Scores x (R, C + 1) of the identities and of the background."""
        if not self.identity_scale:
            logits: Tensor = self.classifier(fc8)
            return logits
        with torch.autocast(fc8.device.type, enabled=False):
            directions = functional.normalize(self.classifier.weight, dim=1)
            return self.identity_scale * functional.normalize(fc8.float(), dim=1) @ directions.t()

    def _identity_loss(self, fc8: Tensor, classes: Tensor) -> Tensor:
        """Eq. 2 or eq. 1 of fc8 (R, D) with `classes` (R,), weighted."""
        logits = self._logits(fc8)
        if self.identity_loss == "rss":
            loss = random_sampling_softmax(logits, classes, self.rss_sampled)
        else:
            loss = softmax_loss(logits, classes)
        return loss * self.identity_weight

    def embed_regions(self, view: View, boxes: list[Tensor]) -> Tensor:
        """Unit embeddings (R, D) of `boxes` in pixels of the batch.

        The paper compares fc8 by Euclidean distance; of unit length, its order is the cosine's.
        """
        return self._embedding(self._read(self.pool(view, boxes)))

    def _embedding(self, read: Tensor) -> Tensor:
        """Unit embeddings (R, D) of the output of fc7."""
        return functional.normalize(self.fc8(read).float(), dim=1)

    def crop_loss(self, embeddings: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """Loss ``identity`` of people on canvases; there is one where the softmax reads cosines."""
        if not self.identity_scale:
            return super().crop_loss(embeddings, ids)
        return {"identity": self._identity_loss(embeddings, ids)}

    def classifier_losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Loss ``softmax``, eq. 1 over all classes, of crops as `datasets.crops` makes them.

        A crop is seen at its own size, and its box is pooled as a region of a picture would be.

        Args:
            images: crops (3, h, w) of one size.
            targets: of each the box (1, 4), and the id (1,) or `BACKGROUND`.
        """
        crops = torch.stack([self.transform.normalize(image) for image in images])
        view = View(
            images,
            ImageList(crops, [(crops.shape[2], crops.shape[3])] * len(images)),
            self.stem(crops),
        )
        ids = torch.cat([target.ids for target in targets])
        fc8 = self.fc8(self._read(self.pool(view, [target.boxes.float() for target in targets])))
        classes = ids.masked_fill(ids == BACKGROUND, self.num_ids)
        return {"softmax": softmax_loss(self._logits(fc8), classes)}

    def classifier_parameters(self) -> list[nn.Parameter]:
        """What the classifier of crops reads: all but proposals, box regression and scores."""
        parts = (self.stem, self.head, self.fc6_7, self.fc8, self.classifier)
        return [p for part in parts for p in part.parameters() if p.requires_grad]

    @torch.no_grad()
    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Everyone in each picture, boxes in the picture's pixels, by descending score."""
        view = self.look(images)
        proposals, scores = self.proposals.scored(view.batch, view.features)
        counts = [len(p) for p in proposals]
        seen = self.pool(view, proposals)
        read = None if self.detection_apart else self._read(seen)
        logits, deltas = self._predict(seen if read is None else read)
        if self.detection_score == "classifier":
            scores = list(logits.float().softmax(dim=1)[:, 1].split(counts))
        elif self.detection_score == "identity":
            assert read is not None, "nothing stands apart without a classifier"
            probabilities = self._logits(self.fc8(read)).float().softmax(dim=1)
            scores = list((1.0 - probabilities[:, -1]).split(counts))
        decoded = decode_boxes(self.sampler.coder, deltas, proposals, view.batch.image_sizes)
        kept = self.select(decoded, scores)
        boxes = [b[k] for b, k in zip(decoded, kept, strict=True)]
        if self.embed_boxes:
            embeddings = self.embed_regions(view, boxes)
        else:
            rows = torch.arange(len(seen), device=seen.device).split(counts)
            chosen = torch.cat([r[k] for r, k in zip(rows, kept, strict=True)])
            embeddings = self._embedding(self._read(seen[chosen]) if read is None else read[chosen])
        sure = [s[k] for s, k in zip(scores, kept, strict=True)]
        return self.finish(view, boxes, sure, embeddings.split([len(k) for k in kept]))


class ScoredProposals(ProposalNetwork):
    """Proposals that keep the probability of showing a person."""

    def scored(self, images: ImageList, features: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Proposals (P_i, 4) of each image in pixels of the batch, best first, and theirs (P_i,).

        Args:
            images: the batch, for its sizes.
            features: (B, C, h, w).
        """
        proposals, _ = self(images, features)
        return proposals, self._scores

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As in torchvision, which drops the scores."""
        boxes, self._scores = super().filter_proposals(
            proposals, objectness, image_shapes, num_anchors_per_level
        )
        return boxes, self._scores


class BoxRegressor(nn.Module):
    """The paper's box regression on fc7, with no classifier of person and background beside it.

    Args:
        width: of fc7.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.regressor = nn.Linear(width, 4)
        nn.init.normal_(self.regressor.weight, std=0.001)
        nn.init.zeros_(self.regressor.bias)

    def forward(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """Equal logits (R, 2), and box deltas (R, 4), of the output (R, W, 1, 1) of fc7."""
        return read.new_zeros((len(read), 2)), self.regressor(read.flatten(1))


def load_fully_connected(layers: nn.Sequential, weights: str) -> None:
    """Starts fc6 and fc7 from those of a VGG16.

    Args:
        layers: as `fully_connected` makes them.
        weights: ``"imagenet"``, or the path of a file with VGG16's state dictionary.

    Raises:
        ModelError: they cannot be had, or do not fit.
    """
    state = published_weights("vgg16") if weights == "imagenet" else read_weights(Path(weights))
    # torchvision's names of them: a dropout stands in between.
    names = {"0": "classifier.0", "2": "classifier.3"}
    kinds = ("weight", "bias")
    try:
        chosen = {f"{o}.{k}": state[f"{t}.{k}"] for o, t in names.items() for k in kinds}
        layers.load_state_dict(chosen)
    except (KeyError, RuntimeError) as error:
        first = str(error).split("\n\t")[-1]
        raise ModelError(
            f"fc_weights {weights!r} do not fit fc6 and fc7: {first}; they need backbone 'vgg16', "
            "hidden = 4096 and embedding_grid = [7, 7], else set fc_weights = 'none'"
        ) from None
