"""Times that a store takes, and which clock its retention trusts.

Retention erases by this machine's clock, which may be wrong: a jump forward would erase everyone.
A store therefore notes the time at which retention last ran. A clock that is up to a week later, or
a day earlier, is trusted. Any other is doubted: nobody is erased, with a warning, until the clock
has run for a day since it was first doubted. A clock before the store was made is never trusted.
Nothing is added at an earlier time than the one last trusted; pictures added at a time still to
come count as added when a trusted clock finds them.
"""

import datetime
from dataclasses import dataclass

DAY = 86_400.0
EARLIEST, LATEST = -62_135_510_400.0, 253_402_128_000.0
"""0001-01-02 and 9999-12-30: a calendar has these times in every time zone."""

LONGEST = 1e9
"""Seconds of a video: 31 years."""

_AHEAD, _BACK = 7 * DAY, DAY  # of the time at which retention last ran
_DOUBTED = DAY  # for how long


@dataclass(frozen=True)
class Clock:
    """The clock of a store's retention, in seconds since 1970."""

    trusted: float  # when it was trusted last
    doubted: float | None  # the time that it showed when doubts began; None without

    def at(self, now: float, made: float) -> "Clock":
        """The clock when it shows `now`, of a store that was made at `made`."""
        if now >= made - DAY:
            near = self.trusted - _BACK <= now <= self.trusted + _AHEAD
            if near or (self.doubted is not None and now >= self.doubted + _DOUBTED):
                return Clock(now, None)
        if self.doubted is None or now < self.doubted:
            return Clock(self.trusted, now)
        return self

    @property
    def doubt(self) -> str:
        """Why nobody is erased; empty if the clock is trusted."""
        if self.doubted is None:
            return ""
        return (
            f"this machine's clock showed {_shown(self.doubted)}, but retention last ran at "
            f"{_shown(self.trusted)}; expected at most a week later. Nobody is erased until the "
            "clock has run for a day; if it is right, run: personsearch store expire --trust-clock"
        )


def known_time(seconds: float | None) -> float | None:
    """Return a time in seconds since 1970; None if it is unknown or no calendar has it."""
    return seconds if seconds is not None and EARLIEST <= seconds <= LATEST else None


def known_position(seconds: float | None) -> float | None:
    """Return a position in a video in seconds; None if it is unknown or no video is that long."""
    return seconds if seconds is not None and 0 <= seconds <= LONGEST else None


def _shown(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(min(max(seconds, EARLIEST), LATEST), datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"
