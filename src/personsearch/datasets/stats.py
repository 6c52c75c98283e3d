"""Statistics of a data set: pictures, boxes, identities, and the size of people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personsearch.datasets.dataset import Dataset
from personsearch.types import UNLABELLED, FloatArray, IntArray, Scene

PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, eq=False)
class SplitStatistics:
    """Statistics of one split; the arrays are for plots."""

    split: str
    images: int
    boxes: int  # annotated people
    labelled: int  # annotated people with an identity
    ids: int
    cameras: int  # known cameras
    heights: FloatArray  # (boxes,) in pixels
    per_image: IntArray  # (images,) boxes in each picture
    per_id: IntArray  # (ids,) boxes of each identity
    cameras_per_id: IntArray  # (ids,) cameras that saw each identity; empty without cameras

    def as_dict(self) -> dict[str, int | float | str | dict[str, float] | None]:
        """Return the values for a table or JSON; None if there is nothing to average."""
        heights, shown = self.heights, PERCENTILES if self.boxes else ()
        return {
            "split": self.split,
            "images": self.images,
            "boxes": self.boxes,
            "labelled_boxes": self.labelled,
            "ids": self.ids,
            "cameras": self.cameras,
            "boxes_an_image": _mean(self.per_image),
            "boxes_an_id": _mean(self.per_id),
            "cameras_an_id": _mean(self.cameras_per_id),
            "mean_height": _mean(self.heights),
            "height_percentiles": {str(p): float(np.percentile(heights, p)) for p in shown},
        }


def _mean(values: FloatArray | IntArray) -> float | None:
    return float(values.mean(dtype=np.float64)) if values.size else None


def split_statistics(split: str, scenes: Sequence[Scene]) -> SplitStatistics:
    """Return the statistics of the scenes of a split."""
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(scene.boxes for scene in scenes)])
    ids = np.concatenate([np.zeros(0, np.int64), *(scene.ids for scene in scenes)])
    labelled = ids[ids != UNLABELLED]
    known, per_id = np.unique(labelled, return_counts=True)
    seen: dict[int, set[int]] = {}
    for scene in scenes:
        if scene.camera is not None:
            for id_ in scene.ids[scene.ids != UNLABELLED].tolist():
                seen.setdefault(id_, set()).add(scene.camera)
    return SplitStatistics(
        split=split,
        images=len(scenes),
        boxes=len(boxes),
        labelled=len(labelled),
        ids=len(known),
        cameras=len({scene.camera for scene in scenes if scene.camera is not None}),
        heights=boxes[:, 3] - boxes[:, 1],
        per_image=np.array([len(scene.boxes) for scene in scenes], dtype=np.int64),
        per_id=per_id.astype(np.int64),
        cameras_per_id=np.array([len(c) for c in seen.values()], dtype=np.int64),
    )


def statistics(dataset: Dataset) -> list[SplitStatistics]:
    """Return the statistics of each split."""
    return [split_statistics(name, scenes) for name, scenes in dataset.splits.items()]
