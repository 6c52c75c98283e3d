"""Run a system on decoded pictures: RGB (H, W, 3) uint8 arrays in, NumPy arrays out.

Stores and searches compare embeddings by their cosine, so `detect` and `embed` return unit length,
whatever the metric of the system. Models come from `PersonSearchModel.for_inference` for speed.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from personsearch.errors import naming_settings
from personsearch.systems.base import PersonSearchModel, device_of
from personsearch.types import Detections, FloatArray


def to_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """Convert a picture to float32 in 0..1, (3, H, W)."""
    return to_numbers(to_pixels(picture))


def to_pixels(picture: NDArray[np.uint8]) -> Tensor:
    """Convert a picture to a tensor of bytes, (3, H, W): a quarter of what numbers take."""
    return torch.from_numpy(picture.transpose(2, 0, 1).copy())


def to_numbers(pixels: Tensor) -> Tensor:
    """Convert bytes (3, H, W) to float32 in 0..1, on their device; numbers stay."""
    return pixels if pixels.is_floating_point() else pixels.float().div_(255.0)


def to_images(pictures: Sequence[NDArray[np.uint8]], device: torch.device) -> list[Tensor]:
    """Convert pictures to float32 in 0..1, (3, H, W) each, on `device`."""
    return [to_numbers(to_pixels(picture).to(device)) for picture in pictures]


@torch.inference_mode()
def detect(model: PersonSearchModel, pixels: NDArray[np.uint8]) -> Detections:
    """Return the people in a picture, with unit embeddings, by descending score."""
    with model.autocast(), naming_settings(size_settings(model)):
        found = model.detect(to_images([pixels], device_of(model)))[0]
    return replace(found, embeddings=as_cosines(model, found.embeddings))


@torch.inference_mode()
def embed(model: PersonSearchModel, pixels: NDArray[np.uint8], boxes: FloatArray) -> FloatArray:
    """Return the unit embeddings (N, D) of given boxes (N, 4) in a picture."""
    device = device_of(model)
    with model.autocast(), naming_settings(size_settings(model)):
        given = torch.as_tensor(boxes, dtype=torch.float32, device=device)
        rows: FloatArray = (
            model.embed(to_images([pixels], device), [given])[0].float().cpu().numpy()
        )
    return as_cosines(model, rows)


def size_settings(model: PersonSearchModel) -> dict[str, object]:
    """Return the settings of a system that its memory at search time grows with."""
    detector = getattr(model, "detector", model)
    held = {
        "max_size": getattr(getattr(model, "transform", None), "max_size", None),
        "rpn_post_nms_top_n_test": getattr(
            getattr(detector, "settings", None), "rpn_post_nms_top_n_test", None
        ),
        "device": device_of(model),
    }
    return {name: value for name, value in held.items() if value is not None}


def as_cosines(model: PersonSearchModel, embeddings: FloatArray) -> FloatArray:
    """Return a system's embeddings (N, D) at the unit length that cosines need."""
    return embeddings if model.metric == "cosine" else unit_length(embeddings)


def unit_length(rows: FloatArray) -> FloatArray:
    """Scale rows (N, D) to unit length; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return scaled
