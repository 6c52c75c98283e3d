"""Time indexing: how long the network waits, and the speed-up over a sequential loop.

    python benchmarks/indexing.py --data FOLDER [--copies 4] [--json]
    python benchmarks/indexing.py --pictures 200

With a folder as in `personsearch.demo.real_samples`, its networks run on its pictures and video.
Without, a small network with fixed weights runs on made pictures, which shows the cost of the
pipeline itself. The baseline, in the same run, decodes, detects and writes sequentially in one
thread. Aim: the network waits for less than a tenth of the time.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from personsearch.demo.real_samples import sample_networks
from personsearch.errors import PersonSearchError, PictureError
from personsearch.indexing.finding import describe, find
from personsearch.indexing.pipeline import index_media
from personsearch.indexing.writers import StoreWriter
from personsearch.media.files import Media, decode, find_media
from personsearch.store import ModelIdentity, open_store
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.types import Detections


class Small(PersonSearchModel):
    """A few convolutions, and two people in every picture."""

    embedding_dim = 64

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3)
        )
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=generator) * 0.05

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return no losses."""
        return {}

    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Return two people per picture."""
        boxes = torch.tensor([[10.0, 10.0, 60.0, 160.0], [90.0, 20.0, 140.0, 170.0]])
        vectors = self.embed(images, [boxes] * len(images))
        return [Detections(boxes, torch.tensor([0.9, 0.8]), rows) for rows in vectors]

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Return the features of the picture for each box."""
        found = []
        for image, some in zip(images, boxes, strict=True):
            pooled = self.layers(image[None]).mean(dim=(2, 3))
            found.append(torch.nn.functional.normalize(pooled, dim=1).expand(len(some), -1))
        return found


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        data: what was indexed.
        pictures: number of pictures.
        pictures_per_second: speed of the pipeline.
        waited_share: share of the time in which the network waited.
        in_turn_per_second: speed of the sequential loop.
        speedup: speed-up over the sequential loop.
    """

    data: str
    pictures: int
    pictures_per_second: float
    waited_share: float
    in_turn_per_second: float
    speedup: float


def measure(
    name: str, model: PersonSearchModel, media: Sequence[Media], every: float, scratch: Path
) -> Row:
    """Index the media sequentially and by the pipeline, each into its own store."""
    identity = ModelIdentity("benchmark", "b" * 64, model.embedding_dim)
    for frame in decode(media[0], every=every):
        find(model, frame, 0.3)  # warm up
        break
    began, pictures = time.perf_counter(), 0
    with open_store(scratch / f"{name}-turn", model=identity, write=True) as store:
        for one in media:
            row = store.begin_file(one.source, one.name, one.stamp, one.camera)
            try:
                for frame in decode(one, every=every):
                    found = describe(frame, find(model, frame, 0.3))
                    store.add(row, [found], finished=one.kind == "photo")
                    pictures += 1
            except PictureError as error:
                store.finish_file(row, str(error))
    in_turn = pictures / (time.perf_counter() - began)
    with open_store(scratch / f"{name}-piped", model=identity, write=True) as store:
        report = index_media(model, StoreWriter(store, tracks=False), media, every=every)
    assert report.pictures == pictures
    share = report.waited / report.seconds
    return Row(name, pictures, report.rate, share, in_turn, report.rate / in_turn)


def made_pictures(folder: Path, count: int) -> Path:
    """Make pictures of smooth noise, which compress like photographs."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        coarse = generator.integers(0, 256, (30, 40, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((320, 240)).save(folder / f"{number:05}.jpg", quality=90)
    return folder


def compare(data: Path | None, pictures: int, copies: int, scratch: Path) -> list[Row]:
    """Return all measurements."""
    if data is None:
        media, _ = find_media([made_pictures(scratch / "made", pictures)])
        return [measure("made pictures", Small().eval(), media, 1.0, scratch)]
    model = sample_networks(data).eval()
    folder = scratch / "pictures"
    folder.mkdir()
    for path in sorted((data / "prw-frames").glob("*.jpg")):
        for copy in range(copies):
            shutil.copy(path, folder / f"{path.stem}-{copy}.jpg")
    photos, _ = find_media([folder])
    videos, _ = find_media([data / "pets09" / "vtest_480x360.avi"])
    return [
        measure("photos, 1920 x 1080", model, photos, 1.0, scratch),
        measure("video, 480 x 360, every second", model, videos, 1.0, scratch),
    ]


def main() -> int:
    """Print a table or JSON; 0 on success, 1 on a failure of data or model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of real samples")
    parser.add_argument("--pictures", type=int, default=200, help="made pictures, without --data")
    parser.add_argument("--copies", type=int, default=4, help="copies of each real photo")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rows = compare(given.data, given.pictures, given.copies, Path(scratch))
    except PersonSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps([vars(row) for row in rows]))
        return 0
    table = Table("indexed", "pictures", "pictures/s", "network waits", "in turn", "speed-up")
    for row in rows:
        table.add_row(
            row.data,
            str(row.pictures),
            f"{row.pictures_per_second:.1f}",
            f"{row.waited_share:.1%}",
            f"{row.in_turn_per_second:.1f}",
            f"{row.speedup:.2f}",
        )
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
