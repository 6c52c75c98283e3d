"""Read camera and time out of the names of files and folders, by a pattern of the user.

{camera}/{date}_{time}          gate/20261121_134500.mp4
{camera}/{date}/{any}-{time}    gate/2026-11-21/rec-13.45.00.mp4
{camera}_{epoch}                gate_1795268700.jpg
"""

import datetime
import re
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from personsearch.errors import DataError

_PARTS = {
    "camera": r"(?P<camera>[^/]+?)",
    "date": r"(?P<year>\d{4})[-_.]?(?P<month>\d\d)[-_.]?(?P<day>\d\d)",
    "time": r"(?P<hour>\d\d)[-_.:h]?(?P<minute>\d\d)(?:[-_.:m]?(?P<second>\d\d))?s?",
    "epoch": r"(?P<epoch>\d{9,11})",
    "any": r"[^/]*?",
}
_ONCE = ("camera", "date", "time", "epoch")
_MAX_FREE = 3  # of any length in one name: matching takes its length to this power
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class NamePattern:
    """A pattern of names; text outside of the placeholders matches itself.

    It has ``{camera}``, ``{date}``, ``{time}``, ``{epoch}`` (seconds since 1970) and ``{any}``, and
    describes the end of a path, from the start of a folder's or the file's name on, without the
    file's ending; no placeholder reaches over a slash.

    Raises:
        DataError: an unknown or repeated placeholder, a time without a date, or none at all.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        names = _PLACEHOLDER.findall(pattern)
        known = ", ".join(f"{{{name}}}" for name in _PARTS)
        if unknown := [name for name in names if name not in _PARTS]:
            raise DataError(f"{pattern!r}: {{{unknown[0]}}} is not a placeholder; expected {known}")
        if repeated := [name for name in _ONCE if names.count(name) > 1]:
            raise DataError(f"{pattern!r}: {{{repeated[0]}}} appears twice; name it once")
        if not set(names) & set(_ONCE):
            raise DataError(f"{pattern!r} has no placeholder; expected some of {known}")
        if ("time" in names and "date" not in names) or {"date", "epoch"} <= set(names):
            raise DataError(f"{pattern!r}: expected {{date}}, {{date}} and {{time}}, or {{epoch}}")
        parts = [_PLACEHOLDER.findall(part) for part in pattern.split("/")]
        if any(sum(name in ("camera", "any") for name in part) > _MAX_FREE for part in parts):
            free = f"more than {_MAX_FREE} of {{camera}} and {{any}}"
            raise DataError(f"{pattern!r}: {free} in one name")
        # One expression for each name of the path, since together they would try all ways to match
        # one with all ways to match the next.
        self._expressions = [_expression(name) for name in pattern.strip("/").split("/")]

    def read(
        self, path: Path, zone: datetime.tzinfo | None = None
    ) -> tuple[str | None, float | None]:
        """Return camera and seconds since 1970 of a path; None for each that it does not state."""
        last = path.with_suffix("").as_posix().split("/")[-len(self._expressions) :]
        matches = [e.fullmatch(name) for e, name in zip(self._expressions, last, strict=False)]
        found: dict[str, str] = {}
        if len(matches) == len(self._expressions) and all(matches):
            found = {key: text for m in matches if m for key, text in m.groupdict().items()}
        time = None
        if found.get("epoch"):
            time = float(found["epoch"])
        elif found.get("year"):
            names = ("year", "month", "day", "hour", "minute", "second")
            time = to_seconds([int(found.get(name) or 0) for name in names], zone)
        return found.get("camera"), time


def _expression(pattern: str) -> re.Pattern[str]:
    """Return the expression of one name of a path."""
    # What another free placeholder follows would only repeat its work: it matches no text.
    pattern = re.sub(r"(?:\{any\})+(?=\{(?:any|camera)\})", "", pattern)
    # Split gives text and placeholders in turn.
    pieces = _PLACEHOLDER.split(pattern)
    text = "".join(_PARTS[p] if k % 2 else re.escape(p) for k, p in enumerate(pieces))
    return re.compile(text, re.DOTALL)


def to_seconds(numbers: list[int], zone: datetime.tzinfo | None) -> float | None:
    """Return the seconds since 1970 of year, month, day, hour, minute and second; None if none."""
    try:
        year, month, day, hour, minute, second = numbers
        when = datetime.datetime(year, month, day, hour, minute, second, tzinfo=zone)
        return when.timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def time_zone(name: str) -> ZoneInfo:
    """Return the time zone of a name, or raise `DataError`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise DataError(
            f"{name!r} is not a time zone of this machine; expected one such as Europe/Berlin"
        ) from None
