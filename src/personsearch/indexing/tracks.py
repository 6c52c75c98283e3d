"""Link the detections in the frames of one video to tracks.

Someone who stands still for an hour is one track of a few views, not thousands of rows. Detections
are assigned to tracks frame by frame, by position and appearance together (Hungarian method). The
result depends on the detections alone, so a video indexed in several runs gives the same tracks.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from personsearch.boxes import iou
from personsearch.store.tracks import FrameDetection, Track

MAX_GAP = 3.0  # seconds without a detection after which a track has ended
MIN_SIMILARITY = 0.6  # the least cosine between a track's mean embedding and its next detection
MAX_SPEED = 2.5  # the most heights of their own that people walk in a second

_FORBIDDEN = 1e6  # cost of an assignment that is not allowed


def link_detections(detections: Sequence[FrameDetection]) -> list[Track]:
    """Return the tracks of everyone in a video, in the order in which they begin."""
    tracks: list[Track] = []
    active: list[Track] = []
    ordered = sorted(detections, key=lambda one: (one.frame, one.id))
    for _, group in itertools.groupby(ordered, key=lambda one: one.frame):
        now = list(group)
        active = [t for t in active if now[0].position - t.detections[-1].position <= MAX_GAP]
        assigned = _assign(active, now)
        for index, one in enumerate(now):
            track = assigned.get(index)
            if track is None:
                track = Track()
                tracks.append(track)
                active.append(track)
            track.add(one)
    return tracks


def _assign(active: Sequence[Track], now: Sequence[FrameDetection]) -> dict[int, Track]:
    """Map the index of each detection that continues a track to that track."""
    if not active or not now:
        return {}
    before = np.stack([track.detections[-1].box for track in active])
    boxes = np.stack([one.box for one in now])
    overlap = iou(before, boxes)
    similarity = np.stack([t.mean for t in active]) @ np.stack([one.vector for one in now]).T
    passed = np.array([now[0].position - t.detections[-1].position for t in active])
    heights = np.maximum(before[:, 3] - before[:, 1], 1.0)
    centers = [(part[:, :2] + part[:, 2:]) / 2 for part in (before, boxes)]
    distance = np.linalg.norm(centers[0][:, None] - centers[1][None], axis=2)
    reach = (MAX_SPEED * np.maximum(passed, 0.2) * heights)[:, None]
    allowed = (similarity >= MIN_SIMILARITY) & (distance <= reach)
    cost = np.where(allowed, -(similarity + overlap), _FORBIDDEN)
    rows, columns = linear_sum_assignment(cost)
    return {
        int(column): active[int(row)]
        for row, column in zip(rows, columns, strict=True)
        if allowed[row, column]
    }
