"""The re-identification losses of I-Net and DC-I-Net: a pairing loss and an identity loss.

embeddings -> pairs across pictures + dictionary -> pairing loss (OLP)
           -> hardest negatives -> priority classes -> identity loss (HEP, C2HEP)
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.distributed import join, rank, world_size
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
from personsearch.losses.triplet import triplet_loss

TRIPLET_MARGIN, CONTRASTIVE_MARGIN = 0.3, 1.0
"""Of the losses that OLP is compared with; the paper gives neither."""


@dataclass(frozen=True)
class PairingSettings:
    """The re-identification losses (Zhang et al. 2019); each field is a recipe key."""

    pairing_loss: Literal["olp", "triplet", "contrastive", "none"] = "olp"  # tables 5 and 8
    # "hep" in I-Net, "c2hep" in DC-I-Net (table 4); "softmax" is HEP over all classes
    identity_loss: Literal["softmax", "hep", "c2hep", "none"] = "hep"
    # whether two regions of one person in one picture are a positive pair too; the paper pairs
    # regions of two pictures
    same_picture_pairs: bool = False
    alpha: float = 1.0  # weight of the pairing loss (eq. 6 and 10, figure 13a)
    beta: float = 1.0  # weight of the identity loss (eq. 6 and 10, figure 13b)
    dictionary_size: int = 5120  # embeddings in the dictionary, 40 batches of 128 (table 6)
    # of the cosines in OLP; 1 in the paper, whose softmax over thousands of them is all but uniform
    olp_scale: float = 1.0
    hep_scale: float = 1.0  # of the scores of HEP's classifier (of unit embeddings); 1 in the paper
    priority_classes: int = 100  # T, size of the pool of classes (table 7); 0 takes all
    hardest_negatives: int = 10  # r, an anchor's negatives that fill the pool; not in the paper
    center_momentum: float = 0.5  # phi, share of the old class center in an update (eq. 7)
    center_scale: float = 10.0  # lambda, of the cosines to the centers (eq. 8)


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
        # A classifier has the background as its last class; background has no center.
        self.num_classes = num_ids if settings.identity_loss == "c2hep" else num_ids + 1
        self.classifier: nn.Linear | None = None
        self.centers: ClassCenters | None = None
        if settings.identity_loss in ("softmax", "hep"):
            self.classifier = nn.Linear(dim, self.num_classes)
            nn.init.normal_(self.classifier.weight, std=0.01)
            nn.init.zeros_(self.classifier.bias)
        elif settings.identity_loss == "c2hep":
            self.centers = ClassCenters(num_ids, dim, settings.center_momentum)

    def forward(self, embeddings: Tensor, ids: Tensor, pictures: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses, named by their kind. Training mode updates the memories.

        Each row of people's unit embeddings (N, D) has an id and the index of its picture, (N,).
        Pairs are formed between the pictures of all processes.
        """
        settings = self.settings
        embeddings, ids, pictures = join(embeddings, ids, pictures * world_size() + rank())
        if settings.same_picture_pairs:
            pictures = torch.arange(len(ids), device=ids.device)  # each in a picture of its own
        losses: dict[str, Tensor] = {}
        if settings.pairing_loss != "none":
            loss = self.pairing_loss(embeddings, ids, pictures)
            losses[settings.pairing_loss] = settings.alpha * loss
        if settings.identity_loss != "none":
            loss = self.identity_loss(embeddings, ids, pictures)
            losses[settings.identity_loss] = settings.beta * loss
        if self.training:
            self.update_memory(embeddings, ids)
        return losses

    def pairing_loss(self, embeddings: Tensor, ids: Tensor, pictures: Tensor) -> Tensor:
        """Return OLP (eq. 1), or a loss that the paper compares it with."""
        settings = self.settings
        if settings.pairing_loss == "triplet":
            triplets = batch_hard(embeddings, ids, pictures)
            return triplet_loss(embeddings, triplets, TRIPLET_MARGIN)
        if settings.pairing_loss == "contrastive":
            return contrastive_loss(embeddings, ids, CONTRASTIVE_MARGIN, pictures)
        return paired_rows_loss(
            embeddings,
            pairs_across_pictures(ids, pictures),
            self.dictionary.values.clone(),  # it changes before the backward pass reads it
            self.dictionary.negatives(ids),
            settings.olp_scale,
        )

    def identity_loss(self, embeddings: Tensor, ids: Tensor, pictures: Tensor) -> Tensor:
        """Return C2HEP (eq. 9) or HEP (eq. 5) over the priority classes."""
        pool = self.priority_classes(embeddings, ids, pictures)
        if self.centers is not None:
            scale = self.settings.center_scale
            return class_center_hep_loss(embeddings, ids, self.centers.values, pool, scale)
        return hard_example_priority_loss(self.scores(embeddings), ids, pool)

    def priority_classes(self, embeddings: Tensor, ids: Tensor, pictures: Tensor) -> Tensor:
        """Return the pool P of classes in the identity loss (section 3.3)."""
        settings = self.settings
        if settings.identity_loss == "softmax" or not settings.priority_classes:
            return torch.arange(self.num_classes, device=ids.device)
        anchors = pairs_across_pictures(ids, pictures)[0].unique()
        hard = hardest_labels(
            embeddings[anchors],
            self.dictionary.values,
            self.dictionary.ids,
            self.dictionary.negatives(ids[anchors]),
            settings.hardest_negatives,
        )
        return select_priority_classes(ids, hard, self.num_classes, settings.priority_classes)

    def scores(self, embeddings: Tensor) -> Tensor:
        """Return the score (N, C) of every class: of the classifier, or cosines to the centers.

        Raises:
            ModelError: there is no identity loss.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.float()
            if self.centers is not None:
                centers = functional.normalize(self.centers.values, dim=1)
                return self.settings.center_scale * embeddings @ centers.t()
            if self.classifier is None:
                raise ModelError("identity_loss is 'none', so that no class has a score")
            scores: Tensor = self.settings.hep_scale * self.classifier(embeddings)
            return scores

    def update_memory(self, embeddings: Tensor, ids: Tensor) -> None:
        """Push `embeddings` (N, D) of `ids` (N,) into the dictionary and move class centers.

        They are those of all processes (`distributed.join`).
        """
        self.dictionary.push(embeddings, ids)
        if self.centers is not None:
            self.centers.update(embeddings, ids)
