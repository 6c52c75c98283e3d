"""Tracks: the detections of one person in a video, of which the best views are kept."""

from dataclasses import dataclass, field

import numpy as np

from personsearch.types import FloatArray

VIEWS = 5  # how many views of a track are kept


@dataclass(frozen=True, eq=False)
class FrameDetection:
    """A detection in a frame of a video."""

    id: int  # of its row in the store
    frame: int  # index in the video
    position: float  # seconds from the video's start
    box: FloatArray  # (4,) float32 in pixels
    score: float  # the detector's
    vector: FloatArray  # (D,) float32 embedding of unit length


@dataclass(eq=False)
class Track:
    """One person over some time."""

    # in order of time, at most one a frame
    detections: list[FrameDetection] = field(default_factory=list)
    _sum: FloatArray | None = None

    def add(self, detection: FrameDetection) -> None:
        """Append the next detection."""
        self.detections.append(detection)
        self._sum = detection.vector if self._sum is None else self._sum + detection.vector

    @property
    def mean(self) -> FloatArray:
        """The mean embedding (D,), unit length."""
        assert self._sum is not None
        unit: FloatArray = self._sum / max(float(np.linalg.norm(self._sum)), 1e-12)
        return unit

    def best_views(self, count: int = VIEWS) -> list[FrameDetection]:
        """Split the track into `count` equal parts and return the best detection of each.

        The best is surest and largest: the highest score times the root of the box's height.
        """
        if len(self.detections) <= count:
            return list(self.detections)
        parts = np.array_split(np.arange(len(self.detections)), count)
        return [max((self.detections[i] for i in part), key=_quality) for part in parts]


def _quality(detection: FrameDetection) -> tuple[float, int]:
    height = max(float(detection.box[3] - detection.box[1]), 0.0)
    return detection.score * height**0.5, -detection.id
