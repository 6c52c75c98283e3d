"""Joins people in the frames of one video to tracks, and picks the views that are worth keeping.

Someone who stands still for an hour is one track of a few views, not thousands of rows. From frame
to frame, people are assigned to tracks by place and looks together (Hungarian method). The result
depends on what was seen alone, so a video that was indexed in several goes gives the same tracks.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from personsearch.boxes import iou
from personsearch.types import FloatArray

PATIENCE = 3.0
"""Seconds that someone may be out of sight and still be the same track."""
MIN_SIMILARITY = 0.6
"""Cosine between a track's mean and a person who may be the next of it."""
SPEED = 2.5
"""Heights of their own that someone walks in a second, at the most."""
VIEWS = 5
"""Views of a track that are kept."""

_FORBIDDEN = 1e6


@dataclass(frozen=True, eq=False)
class Seen:
    """Someone in a frame.

    Attributes:
        id: of the person in the store.
        frame: index in the video.
        position: seconds from the video's start.
        box: (4,) float32 in pixels.
        score: the detector's.
        vector: (D,) float32, unit length.
    """

    id: int
    frame: int
    position: float
    box: FloatArray
    score: float
    vector: FloatArray


@dataclass(eq=False)
class Track:
    """One person over some time.

    Attributes:
        members: in the order of time, one a frame.
    """

    members: list[Seen] = field(default_factory=list)
    _sum: FloatArray | None = None

    def add(self, seen: Seen) -> None:
        """Goes on with someone."""
        self.members.append(seen)
        self._sum = seen.vector if self._sum is None else self._sum + seen.vector

    @property
    def mean(self) -> FloatArray:
        """The mean embedding (D,), unit length."""
        assert self._sum is not None
        unit: FloatArray = self._sum / max(float(np.linalg.norm(self._sum)), 1e-12)
        return unit

    def best_views(self, count: int = VIEWS) -> list[Seen]:
        """The surest and largest view of each of `count` equal parts of the track."""
        if len(self.members) <= count:
            return list(self.members)
        parts = np.array_split(np.arange(len(self.members)), count)
        return [max((self.members[i] for i in part), key=_worth) for part in parts]


def _worth(seen: Seen) -> tuple[float, int]:
    height = max(float(seen.box[3] - seen.box[1]), 0.0)
    return seen.score * height**0.5, -seen.id


def join(seen: Sequence[Seen]) -> list[Track]:
    """Tracks of everyone in a video, in the order in which they begin."""
    tracks: list[Track] = []
    active: list[Track] = []
    ordered = sorted(seen, key=lambda one: (one.frame, one.id))
    for _, group in itertools.groupby(ordered, key=lambda one: one.frame):
        now = list(group)
        active = [t for t in active if now[0].position - t.members[-1].position <= PATIENCE]
        chosen = _assign(active, now)
        for index, one in enumerate(now):
            if index in chosen:
                chosen[index].add(one)
            else:
                started = Track()
                started.add(one)
                tracks.append(started)
                active.append(started)
    return tracks


def _assign(active: Sequence[Track], now: Sequence[Seen]) -> dict[int, Track]:
    """The track that each of `now` goes on with, for those who do."""
    if not active or not now:
        return {}
    before = np.stack([track.members[-1].box for track in active])
    boxes = np.stack([one.box for one in now])
    overlap = iou(before, boxes)
    likeness = np.stack([t.mean for t in active]) @ np.stack([one.vector for one in now]).T
    passed = np.array([now[0].position - t.members[-1].position for t in active])
    heights = np.maximum(before[:, 3] - before[:, 1], 1.0)
    middles = [(part[:, :2] + part[:, 2:]) / 2 for part in (before, boxes)]
    apart = np.linalg.norm(middles[0][:, None] - middles[1][None], axis=2)
    reach = (SPEED * np.maximum(passed, 0.2) * heights)[:, None]
    possible = (likeness >= MIN_SIMILARITY) & (apart <= reach)
    cost = np.where(possible, -(likeness + overlap), _FORBIDDEN)
    rows, columns = linear_sum_assignment(cost)
    return {
        int(column): active[int(row)]
        for row, column in zip(rows, columns, strict=True)
        if possible[row, column]
    }
