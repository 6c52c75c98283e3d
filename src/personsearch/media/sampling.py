"""Choose frames of a video or a camera: a distance apart, and only where something moves."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import DataError
from personsearch.media.video import Wanted

CHANGED_LEVEL = 20  # grey levels of 255 by which a cell of a frame's small copy has changed
CHANGED_SHARE = 0.005
"""Share of the cells that has to change: the size of a person a seventh of the picture tall."""


@dataclass(frozen=True)
class Sampling:
    """Which frames are taken. The choice depends on the frames alone, so a run can be resumed.

    Numbers that are not positive raise `DataError`.
    """

    seconds: float = 1.0  # between frames; 0 for all of them
    frames: int | None = None  # take every n-th frame instead, whatever its time
    # Leave out frames in which, since the last taken one, less than `CHANGED_SHARE` of the picture
    # has changed, but take one at least every so many seconds; None to leave out none.
    scenes: float | None = None

    def __post_init__(self) -> None:
        if self.seconds < 0 or (self.frames is not None and self.frames < 1):
            given = f"frames every {self.seconds} seconds or {self.frames} frames"
            raise DataError(f"{given}: expected at least 0 seconds or 1 frame")
        if self.scenes is not None and self.scenes <= 0:
            raise DataError(f"one frame at least every {self.scenes} seconds: expected more than 0")

    def chooser(self) -> Wanted:
        """Return a function that decides for each frame of one video, in order."""
        due = 0.0
        before: NDArray[np.uint8] | None = None
        taken = 0.0

        def wanted(index: int, seconds: float, small: Callable[[], NDArray[np.uint8]]) -> bool:
            nonlocal due, before, taken
            if self.frames is not None:
                if index % self.frames:
                    return False
            elif seconds + 1e-6 < due:
                return False
            else:
                # A late frame does not delay the next one, unless a whole step is skipped.
                due = max(due + self.seconds, seconds + self.seconds / 2) if self.seconds else 0.0
            if self.scenes is None:
                return True
            now = small()
            still = before is not None and change(before, now) < CHANGED_SHARE
            if still and seconds - taken + 1e-6 < self.scenes:
                return False
            before, taken = now, seconds
            return True

        return wanted


def change(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """Return the share, 0..1, of cells that differ by `CHANGED_LEVEL` or more."""
    differ = np.abs(before.astype(np.int16) - now.astype(np.int16)) >= CHANGED_LEVEL
    return float(differ.mean())
