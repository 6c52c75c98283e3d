"""Retention trusts a clock that runs on, and doubts one that jumps."""

import pytest

from personsearch.store.clock import DAY, EARLIEST, LATEST, Clock, known_position, known_time

MADE, NOW = 1.6e9, 1.7e9


@pytest.mark.parametrize("passed", [0.0, 1.0, 3600.0, DAY, 7 * DAY, -3600.0])
def test_a_clock_that_runs_on_is_trusted(passed: float) -> None:
    clock = Clock(NOW, None).at(NOW + passed, MADE)
    assert (clock, clock.doubt) == (Clock(NOW + passed, None), "")


@pytest.mark.parametrize("passed", [8 * DAY, 44 * 365 * DAY, -2 * DAY, 1e300, -1e300])
def test_a_clock_that_jumps_is_doubted(passed: float) -> None:
    clock = Clock(NOW, None).at(NOW + passed, MADE)
    assert clock == Clock(NOW, NOW + passed)
    assert "retention last ran at 2023-11-14 22:13 UTC" in clock.doubt
    assert "--trust-clock" in clock.doubt
    # It is set right, and all is as before.
    assert clock.at(NOW + 60, MADE) == Clock(NOW + 60, None)


def test_a_jump_that_stays_is_trusted_after_a_day() -> None:
    begin = NOW + 90 * DAY
    clock = Clock(NOW, None)
    for hour in range(24):
        clock = clock.at(begin + 3600 * hour, MADE)
        assert clock == Clock(NOW, begin)
    assert clock.at(begin + DAY, MADE) == Clock(begin + DAY, None)


def test_a_clock_before_the_store_was_made_is_never_trusted() -> None:
    clock = Clock(NOW, None)
    for day in range(400):
        clock = clock.at(day * DAY, MADE)
        assert clock.doubted == 0.0
    assert clock.at(NOW + 400 * DAY, MADE).doubted is None  # a day later than the doubt
    assert Clock(NOW, NOW + 9 * DAY).at(0.0, MADE).doubted == 0.0


@pytest.mark.parametrize("time", [float("nan"), float("inf"), 1e300, -1e300, 253402300799, None])
def test_times_that_no_calendar_has(time: float | None) -> None:
    assert known_time(time) is None
    assert known_position(time) is None


@pytest.mark.parametrize("time", [EARLIEST, 0.0, 1.7e9, LATEST])
def test_times_of_a_calendar(time: float) -> None:
    assert known_time(time) == time
    assert known_position(12.5) == 12.5
    assert known_position(-1.0) is None
