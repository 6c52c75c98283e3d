"""The re-identification losses of I-Net and DC-I-Net: a pairing loss and an identity loss.

embeddings -> pairs across pictures + dictionary -> pairing loss (OLP)
           -> hardest negatives -> priority classes -> identity loss (HEP, C2HEP)
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from personsearch.distributed import gather
from personsearch.errors import ModelError
from personsearch.losses.c2hep import ClassCenters, class_center_hep_loss
from personsearch.losses.contrastive import contrastive_loss
from personsearch.losses.hep import (
    hard_example_priority_loss,
    hardest_labels,
    select_priority_classes,
)
from personsearch.losses.memory import FeatureDictionary
from personsearch.losses.mining import batch_hard
from personsearch.losses.olp import paired_rows_loss, pairs_across_pictures
from personsearch.losses.softmax import softmax_loss
from personsearch.losses.triplet import triplet_loss


@dataclass(frozen=True)
class PairingSettings:
    """The re-identification losses (Zhang et al. 2019); each field is a recipe key."""

    pairing_loss: Literal["olp", "triplet", "contrastive", "none"] = "olp"  # tables 5 and 8
    # "hep" in I-Net, "c2hep" in DC-I-Net (table 4); "softmax" is HEP over all classes
    identity_loss: Literal["softmax", "hep", "c2hep", "none"] = "hep"
    alpha: float = 1.0  # weight of the pairing loss (eq. 6 and 10, figure 13a).
    beta: float = 1.0  # weight of the identity loss (eq. 6 and 10, figure 13b).
    dictionary_size: int = 5120  # embeddings in the dictionary, 40 batches of 128 (table 6)
    # of the cosines in OLP; 1 in the paper, whose softmax over thousands of them is all but uniform
    olp_scale: float = 1.0
    hep_scale: float = 1.0  # of the scores of HEP's classifier (of unit embeddings); 1 in the paper
    priority_classes: int = 100  # T, size of the pool of classes (table 7); 0 takes all
    hardest_negatives: int = 10  # r, an anchor's negatives that fill the pool; not in the paper
    center_momentum: float = 0.5  # phi, share of the old class center in an update (eq. 7).
    center_scale: float = 10.0  # lambda, of the cosines to the centers (eq. 8).
    triplet_margin: float = 0.3  # not given in the paper
    contrastive_margin: float = 1.0  # not given in the paper


class PairingLosses(nn.Module):
    """The re-identification part of eq. 6 (I-Net) and eq. 10 (DC-I-Net), with its memories.

    Raises:
        ModelError: a size below 0.
    """

    def __init__(self, num_ids: int, dim: int, settings: PairingSettings) -> None:
        super().__init__()
        for name in ("dictionary_size", "priority_classes", "hardest_negatives"):
            if getattr(settings, name) < 0:
                raise ModelError(f"{name} is {getattr(settings, name)}, expected 0 or more")
        self.settings = settings
        self.dictionary = FeatureDictionary(settings.dictionary_size, dim)
        self.classifier: nn.Linear | None = None
        self.centers: ClassCenters | None = None
        if settings.identity_loss in ("softmax", "hep"):
            self.classifier = nn.Linear(dim, num_ids + 1)  # the last class is background
            nn.init.normal_(self.classifier.weight, std=0.01)
            nn.init.zeros_(self.classifier.bias)
        elif settings.identity_loss == "c2hep":
            self.centers = ClassCenters(num_ids, dim, settings.center_momentum)

    def forward(self, embeddings: Tensor, ids: Tensor, pictures: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses, named by their kind. Training mode updates the memories.

        Each row of people's unit embeddings (N, D) has an id and the index of its picture, (N,).
        """
        settings = self.settings
        pairs = pairs_across_pictures(ids, pictures)
        negatives = self.dictionary.negatives(ids)
        losses: dict[str, Tensor] = {}
        if settings.pairing_loss == "olp":
            # A copy: the dictionary changes before the backward pass reads it.
            dictionary = self.dictionary.values.clone()
            loss = paired_rows_loss(embeddings, pairs, dictionary, negatives, settings.olp_scale)
        elif settings.pairing_loss == "triplet":
            triplets = batch_hard(embeddings, ids)
            loss = triplet_loss(embeddings, triplets, settings.triplet_margin)
        elif settings.pairing_loss == "contrastive":
            loss = contrastive_loss(embeddings, ids, settings.contrastive_margin)
        if settings.pairing_loss != "none":
            losses[settings.pairing_loss] = settings.alpha * loss
        if settings.identity_loss != "none":
            loss = self._identity_loss(embeddings, ids, pairs[0].unique(), negatives)
            losses[settings.identity_loss] = settings.beta * loss
        if self.training:
            self.update_memory(embeddings, ids)
        return losses

    def _identity_loss(
        self, embeddings: Tensor, ids: Tensor, anchors: Tensor, negatives: Tensor
    ) -> Tensor:
        """Return the softmax loss, eq. 5 or eq. 9."""
        if self.centers is not None:
            centers = self.centers.values
            pool = self._pool(embeddings, ids, anchors, negatives, len(centers))
            scale = self.settings.center_scale
            return class_center_hep_loss(embeddings, ids, centers, pool, scale)
        assert self.classifier is not None
        with torch.autocast(embeddings.device.type, enabled=False):
            scores = self.settings.hep_scale * self.classifier(embeddings.float())
        if self.settings.identity_loss == "softmax":
            return softmax_loss(scores, ids)
        pool = self._pool(embeddings, ids, anchors, negatives, scores.shape[1])
        return hard_example_priority_loss(scores, ids, pool)

    def _pool(
        self, embeddings: Tensor, ids: Tensor, anchors: Tensor, negatives: Tensor, classes: int
    ) -> Tensor:
        """Return the priority classes, given the rows that are anchors of a pair."""
        settings = self.settings
        if not settings.priority_classes:
            return torch.arange(classes, device=ids.device)
        hard = hardest_labels(
            embeddings[anchors],
            self.dictionary.values,
            self.dictionary.ids,
            negatives[anchors],
            settings.hardest_negatives,
        )
        return select_priority_classes(ids, hard, classes, settings.priority_classes)

    def update_memory(self, embeddings: Tensor, ids: Tensor) -> None:
        """Push `embeddings` (N, D) of `ids` (N,) into the dictionary and move class centers."""
        everyone, their_ids = gather(embeddings, ids)
        self.dictionary.push(everyone, their_ids)
        if self.centers is not None:
            self.centers.update(everyone, their_ids)


class PairingMixin:
    """The crop stage of I-Net and DC-I-Net."""

    reid: PairingLosses

    def crop_loss(self, embeddings: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """Return the losses on true boxes, each box as if from a picture of its own."""
        pictures = torch.arange(len(ids), device=ids.device)
        losses: dict[str, Tensor] = self.reid(embeddings, ids, pictures)
        return losses

    def update_memory(self, embeddings: Tensor, ids: Tensor) -> None:
        self.reid.update_memory(embeddings, ids)
