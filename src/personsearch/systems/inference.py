"""Run a model on 8-bit pictures: conversion to tensors, device, detection."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections


def to_images(pictures: list[NDArray[np.uint8]], device: torch.device) -> list[Tensor]:
    """Convert 8-bit pictures (H, W, 3) to images for networks: float32 RGB in 0..1, (3, H, W)."""
    return [
        torch.tensor(picture, device=device).permute(2, 0, 1).float().div(255.0)
        for picture in pictures
    ]


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's weights; the CPU where it has none."""
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))


def detect(model: PersonSearchModel, pixels: NDArray[np.uint8]) -> Detections:
    """Return everyone in a picture (H, W, 3) of RGB bytes, with their embeddings."""
    with torch.inference_mode():
        found: Detections = model.detect(to_images([pixels], device_of(model)))[0]
    return found
