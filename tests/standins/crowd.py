"""An archive that is quick to make: people are coloured rectangles on grey, and look their colour.

The network of it finds every rectangle, wherever it stands.
"""

from collections.abc import Mapping
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from personsearch.indexing.pipeline import index_media
from personsearch.indexing.writers import StoreWriter
from personsearch.media.files import find_media
from personsearch.search.archive import Archive, open_archive
from personsearch.store import ModelIdentity, open_store
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.types import Detections

RED, PINK, GREEN, BLUE = (220, 40, 40), (220, 70, 90), (30, 160, 60), (40, 60, 210)
HOSTILE = "<img src=x onerror=document.title=1>"
"""A folder, and so a camera, whose name is markup."""
MODEL = ModelIdentity("crowd", "a" * 64, 3)

Color = tuple[int, int, int]


class Crowd(PersonSearchModel):
    """Finds rectangles that are not grey; the larger, the surer."""

    embedding_dim = 3

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        return {}

    def detect(self, images: list[Tensor]) -> list[Detections]:
        found = []
        for image in images:
            colored = (image.amax(0) - image.amin(0) > 0.2).byte().numpy()
            _, _, stats, _ = cv2.connectedComponentsWithStats(colored)
            rows = stats[1:][stats[1:, 4] >= 50][:, :4].astype(np.float32)
            boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1)
            scores = torch.tensor(np.minimum(rows[:, 3] / 100, 1.0))
            given = torch.tensor(boxes).reshape(-1, 4)
            found.append(Detections(given, scores, self.embed([image], [given])[0]))
        return found

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        rows = []
        for image, part in zip(images, boxes, strict=True):
            colors = [
                image[:, int(b[1]) : max(int(b[3]), int(b[1]) + 1), int(b[0]) : int(b[2]) + 1]
                .flatten(1)
                .mean(1)
                for b in part
            ]
            row = torch.stack(colors) if colors else torch.zeros(0, 3)
            rows.append(torch.nn.functional.normalize(row, dim=1))
        return rows


def scene(people: Mapping[int, Color], height: int = 90) -> NDArray[np.uint8]:
    """A picture of 320 x 200 with people at some x."""
    canvas = np.full((200, 320, 3), 128, np.uint8)
    for x, color in people.items():
        canvas[60 : 60 + height, x : x + 36] = color
    return canvas


def save(path: Path, people: Mapping[int, Color], height: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(people, height)).save(path)
    return path


def save_video(path: Path, color: Color, frames: int = 40) -> Path:
    """Someone who walks to the right, ten frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as made:
        stream = made.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 200, "yuv420p"
        for number in range(frames):
            pixels = scene({10 + 4 * number: color})
            made.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        made.mux(stream.encode())
    return path


def make_store(folder: Path) -> Path:
    """Two cameras with photos, one with a video; ten views of people."""
    photos, store = folder / "photos", folder / "store"
    save(photos / "gate" / "20261120_120000.png", {20: RED, 120: GREEN})
    save(photos / "gate" / "20261120_121500.png", {60: PINK, 200: BLUE})
    save(photos / HOSTILE / "20261120_123000.png", {40: RED, 220: GREEN}, height=70)
    save_video(photos / "door" / "20261120_130000.mp4", RED)
    media, _ = find_media([photos])
    with open_store(store, model=MODEL, write=True) as opened:
        index_media(Crowd(), StoreWriter(opened), media)
    return store


def open_crowd(store: Path) -> Archive:
    """An archive whose network is there already."""
    archive = open_archive(store)
    archive._network = Crowd()
    return archive
