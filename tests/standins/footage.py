"""Photos and a video of coloured blocks, what a store holds of them, and networks that die."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from blocks import BROWN, GREEN, ORANGE, RED, Blocks, paint
from torch import Tensor

from personsearch.engines.uri import open_engine
from personsearch.store import ModelIdentity
from personsearch.types import Detections

MODEL = ModelIdentity("blocks", "c" * 64, 3)


def film(path: Path, frames: int = 24) -> Path:
    """Someone in red throughout, and someone in green from the middle on; ten frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 60, 30, "bgr0"
        for k in range(frames):
            pixels = np.zeros((30, 60, 3), np.uint8)
            pixels[:20, :10] = RED
            if k >= frames // 2:
                pixels[:20, 20:30] = (0, 200 + k, 0)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def shoot(folder: Path, photos: int = 12) -> Path:
    """Photos of three cameras, one of nobody and one that is none, and two videos."""
    colors = (RED, GREEN, ORANGE, BROWN)
    for k in range(photos):
        shown = [colors[(k + n) % 4] for n in range(k % 3 + 1)]
        paint(folder / f"camera{k % 3}" / f"{k:02}.png", *shown)
    paint(folder / "empty.png")
    (folder / "text.jpg").write_text("just text")
    film(folder / "camera0" / "2026-11-21_120000.mkv")
    film(folder / "camera1" / "b.mkv", 15)
    return folder


def contents(place: Path | str) -> list[Any]:
    """Everyone and all that is kept of them but their numbers."""
    engine = open_engine(place)
    found = []
    for batch in engine.iterate():
        for one in batch:
            person, track = one.person, one.person.track
            span = None if track is None else (track.first, track.last, track.views)
            where = (person.name, person.frame or 0, person.box.tolist(), person.source)
            rest = (person.score, person.position, person.time, person.camera, person.size, span)
            found.append((*where, repr(rest), one.vector.tobytes(), one.thumbnail))
    engine.close()
    return sorted(found)


class Mortal(Blocks):
    """Kills its process at one picture, as often as it is told to over all processes."""

    def __init__(self, deaths: Path, times: int, at: int) -> None:
        super().__init__()
        self.deaths, self.times, self.at, self.calls = deaths, times, at, 0

    def detect(self, images: list[Tensor]) -> list[Detections]:
        self.calls += 1
        before = len(list(self.deaths.iterdir()))
        if self.calls == self.at and before < self.times:
            (self.deaths / f"{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect(images)


@dataclass(frozen=True)
class LoadMortal:
    """Loads `Mortal` in a worker."""

    deaths: Path
    times: int = 1
    at: int = 1

    def __call__(self) -> Mortal:
        return Mortal(self.deaths, self.times, self.at)


class Poisoned(Blocks):
    """Dies of every picture with someone in brown first."""

    def detect(self, images: list[Tensor]) -> list[Detections]:
        if (images[0][:, 5, 5] * 255).round().int().tolist() == list(BROWN):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect(images)


class Failing(Blocks):
    """Raises what any network may."""

    def detect(self, images: list[Tensor]) -> list[Detections]:
        raise RuntimeError("the network failed")


def unloadable() -> Blocks:
    """A network that is not there."""
    raise ValueError("no such network")
