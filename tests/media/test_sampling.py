"""Which frames are taken: by time, by count, and only where things move."""

import numpy as np
import pytest

from personsearch.errors import DataError
from personsearch.media.sampling import CHANGED_SHARE, Sampling, change

STILL = np.full((45, 80), 100, np.uint8)


def moved(cells: int, by: int = 40) -> np.ndarray:
    picture = STILL.copy()
    picture.reshape(-1)[:cells] += by
    return picture


def choose(sampling: Sampling, times: list[float], pictures: list[np.ndarray]) -> list[int]:
    wanted = sampling.chooser()
    return [
        k
        for k, (time, picture) in enumerate(zip(times, pictures, strict=True))
        if wanted(k, time, lambda picture=picture: picture)
    ]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0, 4, 6, 7]),
        (Sampling(0.0), list(range(9))),
        (Sampling(frames=4), [0, 4, 8]),
        (Sampling(100.0, frames=3), [0, 3, 6]),
    ],
)
def test_by_time_or_by_count(sampling: Sampling, expected: list[int]) -> None:
    # Frames come at an uneven rate, and for two seconds none does.
    times = [0.0, 0.2, 0.9, 0.95, 1.1, 1.2, 3.9, 4.5, 4.6]
    assert choose(sampling, times, [STILL] * 9) == expected


def test_a_frame_in_which_nothing_moved_is_left_out_but_not_for_ever() -> None:
    enough = int(np.ceil(CHANGED_SHARE * STILL.size))
    # 1 and 2 are as 0 is, but for noise and a few cells; 3 differs; 4 and 5 are as 3.
    pictures = [STILL, STILL + 5, moved(enough - 1), moved(enough), *[moved(enough)] * 6]
    assert change(STILL, moved(enough)) >= CHANGED_SHARE > change(STILL, moved(enough - 1))
    times = [float(k) for k in range(10)]
    assert choose(Sampling(scenes=5.0), times, pictures) == [0, 3, 8]
    assert choose(Sampling(scenes=100.0), times, pictures) == [0, 3]
    # Of the frames that --every takes, never more.
    assert choose(Sampling(2.0, scenes=100.0), times, pictures) == [0, 4]
    assert choose(Sampling(frames=5, scenes=100.0), times, pictures) == [0, 5]


def test_slow_change_adds_up() -> None:
    # Against the last taken frame, not against the frame before.
    pictures = [(100 + 4 * k) * np.ones((45, 80), np.uint8) for k in range(11)]
    times = [float(k) for k in range(11)]
    assert choose(Sampling(scenes=100.0), times, pictures) == [0, 5, 10]


@pytest.mark.parametrize("wrong", [{"seconds": -1.0}, {"frames": 0}, {"scenes": 0.0}])
def test_impossible_numbers(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="expected"):
        Sampling(**wrong)  # type: ignore[arg-type]
