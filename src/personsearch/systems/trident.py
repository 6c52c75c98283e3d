"""Trident: person search with adaptive gradient propagation (Han et al. 2021).

picture -> stem -> proposals -> RoIAlign g-hat -> head g -> three branches (figure 2):
detection (person or not by g-hat and g, box by g), re-identification (an embedding of g-hat and g),
and part classification (which part of a person is this?). The confidence alpha of the detection
branch weighs the gradients of the other two.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Backbone
from personsearch.distributed import join
from personsearch.errors import ModelError
from personsearch.losses import agwf
from personsearch.losses.identities import check_ids
from personsearch.losses.memory import CircularQueue, LookupTable, update_memories
from personsearch.systems.regions import (
    DetectionStep,
    RegionFeatures,
    RegionSettings,
    RegionSystem,
)

PUBLISHED = RegionSettings(min_size=900, max_size=1500, roi_size=(24, 8))
"""The region settings of the paper: those of NAE but for the size of a pooled region.

Where the paper is silent, defaults are those of NAE's program, which it builds on, and of the
authors' next one (github.com/VIP-Lab-UNIST/CUCPS_official), which has two foreground classifiers
and pools g to four parts.
"""


class Trident(RegionSystem):
    """Faster R-CNN with three branches, trained together with adaptive gradient weights.

    Of the features of a region, g-hat is `pooled` and g is `deep`.

    No gradient goes through alpha, nor through S_bar of L_un.

    Raises:
        ModelError: an odd `embedding_dim`, a negative `parts`, or `background_iou` outside of
            0..0.5.
    """

    def __init__(
        self,
        backbone: Backbone,  # the cut network; ResNet-50 in the paper
        num_ids: int,  # labelled identities in the training set
        *,
        embedding_dim: int = 256,  # length of an embedding, half from each of the two encoders
        queue_size: int = 5000,  # people without an identity; 5,000 for CUHK-SYSU, 500 for PRW
        queue_background: bool = True,  # whether those of background are among them
        table_momentum: float = 0.5,  # share of the old value in an update of the lookup table
        identity_temperature: float = 1 / 30,  # tau_1
        binary_temperature: float = 2.0,  # tau_2
        part_temperature: float = 1 / 10,  # tau_3
        identity_weight: float = 1.0,  # of L_re-id in the sum
        binary_weight: float = 1.0,  # of L_bin in L_re-id; 0 leaves the term out (table 2)
        unlabelled_weight: float = 0.1,  # lambda (eq. 6); 0 leaves the term out (table 2).
        adaptive: bool = True,  # whether alpha weighs the gradients; if not, alpha is 1 (table 1)
        parts: int = 4,  # N_p, 0: no part classification (table 1). Parts may share a row of g
        part_weight: float = 1.0,  # of L_part in the sum
        # foreground classifiers on g-hat and on g, whose logits are added; if not, on g alone
        shallow_foreground: bool = True,
        # regions below this IoU are background, those between it and 0.5 are in no loss
        background_iou: float = 0.1,
        box_weight: float = 10.0,  # of the box regression loss
        box_beta: float = 1.0,  # where its smooth L1 turns from square to linear
        min_iou: float = 0.5,  # least IoU with a person's box of the regions in L_re-id
        embed_boxes: bool = False,  # embed the final boxes instead of their proposals
        confidence_weighted: bool = True,  # similarity x detection score, as the paper's search
        regions: RegionSettings = PUBLISHED,
    ) -> None:
        if embedding_dim % 2:
            raise ModelError(
                f"embedding_dim is {embedding_dim}, expected an even number: each of the two "
                "encoders gives half of it"
            )
        if parts < 0:
            raise ModelError(f"parts is {parts}, expected 0 (no part classification) or more")
        super().__init__(backbone, num_ids, embedding_dim, regions, background_iou)
        self.identity_temperature = identity_temperature
        self.binary_temperature = binary_temperature
        self.part_temperature = part_temperature
        self.identity_weight, self.binary_weight = identity_weight, binary_weight
        self.unlabelled_weight, self.part_weight = unlabelled_weight, part_weight
        self.adaptive = adaptive
        self.parts, self.min_iou, self.queue_background = parts, min_iou, queue_background
        self.box_weight, self.box_beta = box_weight, box_beta
        self.embed_boxes, self.confidence_weighted = embed_boxes, confidence_weighted

        shallow, deep = backbone.stem_channels, backbone.head_channels
        cells = math.prod(self.cells)
        # detection branch
        self.foreground = nn.Linear(backbone.detection_channels, 2)
        self.shallow_foreground = nn.Linear(shallow, 2) if shallow_foreground else None
        self.regressor = nn.Linear(backbone.detection_channels, 4)
        # re-identification branch
        self.shallow_encoder = nn.Linear(shallow * cells, embedding_dim // 2)
        self.deep_encoder = nn.Linear(deep * cells, embedding_dim // 2)
        # part classification branch
        self.part_classifier = nn.Linear(deep, parts + 1) if parts else None
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        # "Only the foreground classifiers do not train the biases" (section 5.2).
        for classifier in (self.foreground, self.shallow_foreground):
            if classifier is not None:
                classifier.bias.requires_grad_(False)

        self.lookup = LookupTable(num_ids, embedding_dim, table_momentum)
        self.queue = CircularQueue(queue_size, embedding_dim)

    def predict(self, features: RegionFeatures) -> tuple[Tensor, Tensor]:
        vector = functional.adaptive_max_pool2d(features.detection, 1).flatten(1)
        logits = self.foreground(vector)
        if self.shallow_foreground is not None:
            shallow = functional.adaptive_max_pool2d(features.pooled, 1).flatten(1)
            logits = logits + self.shallow_foreground(shallow)
        return logits, self.regressor(vector)

    def embed_features(self, features: RegionFeatures) -> Tensor:
        """Return unit embeddings (R, D): half of an encoder of g-hat, half of one of g."""
        halves = [
            encoder(functional.adaptive_max_pool2d(x, self.cells).flatten(1))
            for encoder, x in (
                (self.shallow_encoder, features.pooled),
                (self.deep_encoder, features.deep),
            )
        ]
        return functional.normalize(torch.cat(halves, dim=1).float(), dim=1)

    def identity_losses(self, step: DetectionStep) -> dict[str, Tensor]:
        """Return ``identity``, ``binary``, ``unlabelled`` (eq. 6) and ``part`` (eq. 11)."""
        alpha = self.person_probability(step.logits).detach()
        if not self.adaptive:
            alpha = torch.ones_like(alpha)
        regions = step.regions
        near = regions.foreground & (regions.ious >= self.min_iou)
        # Background is in no term of L_re-id, but goes into the queue.
        kept = near | ~regions.foreground if self.queue_background else near
        embeddings, alphas, ids, near, kept = join(
            self.embed_features(step.features), alpha, regions.ids, near, kept
        )
        losses = self._memory_losses(embeddings[near], alphas[near], ids[near])
        if self.training:
            update_memories(self.lookup, self.queue, embeddings[kept], ids[kept])
        parts = self._part_losses(step.features.deep, alpha, regions.foreground)
        return losses | {name: loss * regions.share for name, loss in parts.items()}

    def _memory_losses(self, embeddings: Tensor, alpha: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """Return the terms of eq. 6 on people's `embeddings` (R, D) of `ids` (R,)."""
        num_ids = len(self.lookup.values)
        check_ids(ids, num_ids, "the lookup table")
        with torch.autocast(embeddings.device.type, enabled=False):
            # A copy: the memories change before gradients are asked for.
            memory = torch.cat([self.lookup.values, self.queue.values])
            similarity = embeddings.float() @ memory.t()
        labelled = ids >= 0
        alpha_l, targets = alpha[labelled], ids[labelled]
        own = similarity[labelled].gather(1, targets[:, None]).flatten()
        losses = {
            "identity": agwf.identity_loss(
                similarity[labelled], alpha_l, targets, self.identity_temperature
            )
        }
        if self.binary_weight:
            losses["binary"] = agwf.binary_loss(own, alpha_l, self.binary_temperature)
        if self.unlabelled_weight:
            # Without a labelled proposal there is nothing to stand for the unknown identity.
            others = ~labelled & labelled.any()
            reference = own.mean() if len(own) else own.sum()
            losses["unlabelled"] = agwf.unlabelled_loss(
                similarity[others, :num_ids],
                alpha[others],
                reference.detach(),
                self.identity_temperature,
            )
        weights = {
            "identity": 1.0,
            "binary": self.binary_weight,
            "unlabelled": self.unlabelled_weight,
        }
        return {k: self.identity_weight * weights[k] * loss for k, loss in losses.items()}

    def _part_losses(self, deep: Tensor, alpha: Tensor, foreground: Tensor) -> dict[str, Tensor]:
        """Return L_part (eq. 11) on g (R, C', h', w'); nothing if `parts` is 0.

        The parts of a person have classes 0 to N_p - 1 from top to bottom, all parts of background
        class N_p.
        """
        if self.part_classifier is None:
            return {}
        if deep.shape[2] < self.parts:
            raise ModelError(
                f"parts is {self.parts}, but the head's output has {deep.shape[2]} rows; lower "
                "parts or make roi_size taller"
            )
        h = functional.adaptive_max_pool2d(deep, (self.parts, 1)).flatten(2).transpose(1, 2)
        which = torch.arange(self.parts, device=deep.device).expand(len(deep), -1)
        targets = torch.where(foreground[:, None], which, self.parts)
        loss = agwf.part_loss(self.part_classifier(h), alpha, targets, self.part_temperature)
        return {"part": loss * self.part_weight}
