"""Two-step search, the baseline of every paper: any detector, then any embedder on crops.

model = from_toml(Path("omz_osnet.toml"))                          # a user's own networks
model = TwoStep(ModelDetector(oim), ExtractorEmbedder(extract))    # or any two parts
model = TwoStep(None, ExtractorEmbedder(extract))                  # for ground-truth boxes
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from personsearch.errors import DataError, ModelError
from personsearch.external.description import NetworksDescription, read_description
from personsearch.external.detector import ExternalDetector
from personsearch.external.embedder import ExternalEmbedder
from personsearch.external.input_transform import Picture
from personsearch.systems.base import Metric, PersonSearchModel, Target, device_of
from personsearch.systems.inference import to_images, unit_length
from personsearch.types import Detections, FloatArray


class Detector(Protocol):
    """Find people in pictures: RGB (H, W, 3) uint8 -> boxes (N, 4), scores (N,) of each."""

    def __call__(self, pictures: list[Picture], /) -> list[tuple[FloatArray, FloatArray]]: ...


class Embedder(Protocol):
    """Embed boxes: pictures and the boxes (N_i, 4) of each -> (sum N_i, D)."""

    dim: int

    def __call__(self, pictures: list[Picture], boxes: list[FloatArray], /) -> FloatArray: ...


class ModelDetector(nn.Module):
    """The boxes and scores of any system, as a detector."""

    def __init__(self, model: PersonSearchModel) -> None:
        super().__init__()
        self.model = model.for_inference()

    def forward(self, pictures: list[Picture]) -> list[tuple[FloatArray, FloatArray]]:
        """Return boxes (N, 4) in picture pixels and scores (N,) of each picture."""
        with torch.inference_mode(), self.model.autocast():
            found = self.model.detect(to_images(pictures, device_of(self.model)))
        return [(detections.boxes, detections.scores) for detections in found]


class TwoStep(PersonSearchModel):
    """Any detector and any embedder as one person-search model. Nothing in it is trained."""

    inference_precision = "float32"  # of what is not left to runtimes and to forms of their own

    def __init__(
        self,
        detector: Detector | None,  # finds people; None if every box is given, such as ground truth
        embedder: Embedder,
        *,
        # "cosine" scales vectors to unit length (zeros stay), "euclidean" leaves them as they are
        metric: Metric = "cosine",
        confidence_weighted: bool = False,  # rank by similarity x detection score
        class_name: str = "person",  # what is searched for
    ) -> None:
        super().__init__()
        self.detector = detector
        self.embedder = embedder
        self.embedding_dim = embedder.dim
        self.metric = metric
        self.confidence_weighted = confidence_weighted
        self.class_name = class_name
        self.eval()

    @property
    def devices(self) -> tuple[str, ...]:
        """Where the detector and the embedder run, as far as they say so."""
        return tuple(getattr(part, "device", "") for part in (self.detector, self.embedder))

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Raise a `ModelError`: there is nothing to train."""
        raise ModelError(
            "a two-step model joins finished networks and has no training losses; train the "
            "detector or the embedder by itself"
        )

    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Return the people in each picture, by descending score.

        Raises:
            DataError, ModelError: an image is not (3, H, W); no detector, or a network fails.
        """
        if self.detector is None:
            raise ModelError(
                "this two-step model has no detector; give it boxes with embed(), or a detector"
            )
        pictures = [to_picture(image) for image in images]
        found = []
        for boxes, scores in self.detector(pictures):
            order = np.argsort(-scores, kind="stable")
            found.append((boxes[order], scores[order]))
        embedded = self._embed(pictures, [boxes for boxes, _ in found])
        return [
            Detections(boxes, scores, rows)
            for (boxes, scores), rows in zip(found, embedded, strict=True)
        ]

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Return embeddings (N_i, D), float32, on each image's device.

        Raises:
            DataError: an image is not (3, H, W), or a box lies outside of its image.
            ModelError: the embedder fails.
        """
        if len(images) != len(boxes):
            raise DataError(
                f"{len(images)} images and {len(boxes)} sets of boxes, expected one set an image"
            )
        arrays = [part.detach().cpu().float().reshape(-1, 4).numpy() for part in boxes]
        rows = self._embed([to_picture(image) for image in images], arrays)
        return [
            torch.from_numpy(part).to(image.device)
            for part, image in zip(rows, images, strict=True)
        ]

    def _embed(self, pictures: list[Picture], boxes: list[FloatArray]) -> list[FloatArray]:
        counts = [len(part) for part in boxes]
        if sum(counts) == 0:
            return [np.zeros((0, self.embedding_dim), dtype=np.float32) for _ in boxes]
        rows = np.asarray(self.embedder(pictures, boxes), dtype=np.float32)
        if rows.shape != (sum(counts), self.embedding_dim):
            raise ModelError(
                f"the embedder gave {rows.shape} for {sum(counts)} boxes, expected "
                f"{(sum(counts), self.embedding_dim)}"
            )
        if not np.isfinite(rows).all():
            raise ModelError(
                "the embedder gave NaN or infinity; check its 'scale', 'mean' and 'std'"
            )
        if self.metric == "cosine":
            rows = unit_length(rows)
        return np.split(rows, np.cumsum(counts)[:-1])


def to_picture(image: Tensor) -> Picture:
    """Convert an image, float32 RGB in 0..1 (3, H, W), to 8-bit RGB (H, W, 3).

    Values are rounded, so that a picture read from a file comes back exactly.

    Raises:
        DataError: another shape or type.
    """
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise DataError(
            f"image is {image.dtype} of shape {tuple(image.shape)}, expected float32 (3, H, W)"
        )
    values = image.detach().float().mul(255.0).round_().clamp_(0, 255).to(torch.uint8)
    picture: Picture = values.permute(1, 2, 0).contiguous().cpu().numpy()
    return picture


def from_toml(path: Path, device: str = "auto") -> TwoStep:
    """Load the two networks that a TOML names; see `personsearch.external.description`.

    A `device` other than ``auto`` goes before those in the TOML.

    Raises:
        ModelError: the TOML is missing or wrong, a network or its runtime is missing, or a
            network does not fit the TOML.
    """
    path = Path(path)
    return from_description(read_description(path), path.parent, device)


def from_description(
    description: NetworksDescription, folder: Path = Path(), device: str = "auto"
) -> TwoStep:
    """Load the two networks of a description; relative files start at `folder`."""
    return TwoStep(
        ExternalDetector(description.detector, folder, device),
        ExternalEmbedder(description.embedder, folder, device),
        confidence_weighted=description.confidence_weighted,
        class_name=description.detector.class_name,
    )
