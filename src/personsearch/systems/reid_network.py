"""A re-identification network on crops: the strong baseline that RDLR builds on.

crop -> blocks C1 to C5, the last at stride 1 -> average f -> batch normalisation -> classifier

Han et al. (2019, footnote 2) take it from ``L1aoXingyu/reid_baseline``: the triplet loss reads f,
the softmax and the search read what the neck, a batch normalisation without shift, makes of f. The
classifier has no bias. (That code has no ReLU between the first normalisation and its pooling;
here the blocks are the ones that the ImageNet weights were trained with.)
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.detectors.backbones import Trunk
from personsearch.detectors.weights import IMAGENET_MEAN, IMAGENET_STD
from personsearch.distributed import join
from personsearch.errors import ModelError
from personsearch.losses.cosine_softmax import CosineSoftmax
from personsearch.losses.identities import check_ids
from personsearch.losses.mining import batch_hard
from personsearch.losses.triplet import triplet_loss


@dataclass(frozen=True)
class ReidSettings:
    """The re-ID network; each field is a recipe key."""

    reid_last_stride: int = 1  # of C5, 1 or 2
    reid_neck: bool = True  # batch normalisation between the average and the classifier
    # What networks without pretrained weights need:
    reid_dim: int = 0  # length of an embedding; 0 takes the average as it is
    reid_classifier: Literal["linear", "cosine"] = "linear"  # cosine: over unit embeddings


STRONG_BASELINE = ReidSettings()
"""The settings of the published network."""


class ReidNetwork(nn.Module):
    """Features and unit embeddings of crops, and the losses that train them.

    Raises:
        ModelError: settings that no network can have.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: Trunk,  # ResNet-50's in the paper; the network starts with copies of its blocks
        num_ids: int,  # labelled identities in the training set
        settings: ReidSettings = STRONG_BASELINE,
    ) -> None:
        super().__init__()
        if settings.reid_last_stride not in (1, 2):
            raise ModelError(
                f"reid_last_stride is {settings.reid_last_stride}, expected 1 (the paper's) or 2"
            )
        self.blocks, self.cells = nn.Sequential(*trunk.copies().values()), trunk.cells
        self.stride = trunk.strides["C5"]
        if settings.reid_last_stride == 1:
            self.stride = trunk.strides["C4"]
            for module in self.blocks[-1].modules():
                if isinstance(module, nn.Conv2d):
                    module.stride = (1, 1)
        width = trunk.channels["C5"] * math.prod(self.cells)
        dim = self.embedding_dim = settings.reid_dim or width
        self.embedder = nn.Linear(width, dim) if settings.reid_dim else nn.Identity()
        self.neck: nn.Module = nn.BatchNorm1d(dim) if settings.reid_neck else nn.Identity()
        self.classifier: nn.Linear | CosineSoftmax
        if settings.reid_classifier == "cosine":
            self.classifier = CosineSoftmax(num_ids, dim)
        elif settings.reid_neck:
            self.classifier = nn.Linear(dim, num_ids, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.001)
        else:
            self.classifier = nn.Linear(dim, num_ids)
        if isinstance(self.neck, nn.BatchNorm1d):
            self.neck.bias.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        """Return features f (R, D), float32, of `crops` (R, 3, h, w) in 0..1."""
        if not len(crops):
            return crops.new_zeros((0, self.embedding_dim))
        device = crops.device.type
        # oneDNN's bfloat16 convolution reads foreign memory where a stride leaves one column
        # (torch 2.14), so that equal runs differ.
        unsafe = device == "cpu" and crops.shape[3] < 2 * self.stride
        mixed = torch.is_autocast_enabled(device) and not unsafe
        with torch.autocast(device, torch.get_autocast_dtype(device), enabled=mixed):
            maps = self.blocks((crops - self.mean) / self.std)
            averaged = functional.adaptive_avg_pool2d(maps, self.cells).flatten(1)
            features: Tensor = self.embedder(averaged)
        return features.float()

    def embed(self, crops: Tensor) -> Tensor:
        """Return unit embeddings (R, D) of `crops`, after the neck; gradients reach the crops."""
        return functional.normalize(self.neck(self(crops)), dim=1)

    def losses(self, crops: Tensor, ids: Tensor, margin: float) -> dict[str, Tensor]:
        """Return ``softmax`` and, if `margin` is not 0, ``triplet``: its training on crops.

        The triplets are batch-hard, on the features before the neck. Both losses, and the neck's
        statistics, are of the crops of all processes.
        """
        features, ids = join(self(crops), ids)
        losses = {"softmax": self._softmax_loss(features, ids)}
        if margin:
            losses["triplet"] = triplet_loss(features, batch_hard(features, ids), margin)
        return losses

    def softmax_loss(self, features: Tensor, ids: Tensor) -> Tensor:
        """Return the cross-entropy of features (R, D) of `forward` with ids (R,) >= 0, or 0.

        The mean is over the rows of all processes.

        Raises:
            TrainingError: an id is out of range.
        """
        return self._softmax_loss(*join(features, ids))

    def _softmax_loss(self, features: Tensor, ids: Tensor) -> Tensor:
        labelled = ids >= 0
        if not labelled.any():
            return features.sum() * 0.0
        with torch.autocast(features.device.type, enabled=False):
            after = self.neck(features[labelled].float())
            if isinstance(self.classifier, CosineSoftmax):
                loss: Tensor = self.classifier(functional.normalize(after, dim=1), ids[labelled])
                return loss
            check_ids(ids, self.classifier.out_features, "the classifier")
            return functional.cross_entropy(self.classifier(after), ids[labelled])
