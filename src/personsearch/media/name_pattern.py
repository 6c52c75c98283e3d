"""Reads camera and time out of the names of files and folders, by a pattern that the user gives.

{camera}/{date}_{time}          gate/20261121_134500.mp4
{camera}/{date}/{any}-{time}    gate/2026-11-21/rec-13.45.00.mp4
{camera}_{epoch}                gate_1795268700.jpg
"""

import datetime
import re
from pathlib import Path

from personsearch.errors import DataError

_PARTS = {
    "camera": r"(?P<camera>[^/]+?)",
    "date": r"(?P<year>\d{4})[-_.]?(?P<month>\d\d)[-_.]?(?P<day>\d\d)",
    "time": r"(?P<hour>\d\d)[-_.:h]?(?P<minute>\d\d)(?:[-_.:m]?(?P<second>\d\d))?s?",
    "epoch": r"(?P<epoch>\d{9,11})",
    "any": r"[^/]*?",
}
_ONCE = ("camera", "date", "time", "epoch")
_MOST = 3  # of any length in one name: the time to match grows with its length to this power
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class NamePattern:
    """What names look like; everything outside of the placeholders is meant as it stands.

    Args:
        pattern: with ``{camera}``, ``{date}``, ``{time}``, ``{epoch}`` (seconds since 1970) and
            ``{any}``. It describes the end of a path, from the start of a folder's or the file's
            name on, without the file's ending; no placeholder reaches over a slash.

    Raises:
        DataError: an unknown or repeated placeholder, a time without a date, or none at all.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        names = _PLACEHOLDER.findall(pattern)
        known = ", ".join(f"{{{name}}}" for name in _PARTS)
        if unknown := [name for name in names if name not in _PARTS]:
            raise DataError(f"{pattern!r}: {{{unknown[0]}}} is no placeholder; expected {known}")
        if repeated := [name for name in _ONCE if names.count(name) > 1]:
            raise DataError(f"{pattern!r}: {{{repeated[0]}}} stands there twice")
        if not set(names) & set(_ONCE):
            raise DataError(f"{pattern!r} has no placeholder; expected some of {known}")
        if ("time" in names and "date" not in names) or {"date", "epoch"} <= set(names):
            raise DataError(f"{pattern!r}: expected {{date}}, {{date}} and {{time}}, or {{epoch}}")
        parts = [_PLACEHOLDER.findall(part) for part in pattern.split("/")]
        if any(sum(name in ("camera", "any") for name in part) > _MOST for part in parts):
            raise DataError(f"{pattern!r}: more than {_MOST} of {{camera}} and {{any}} in one name")
        # Split gives text and placeholders in turn.
        pieces = _PLACEHOLDER.split(pattern.strip("/"))
        text = "".join(_PARTS[p] if k % 2 else re.escape(p) for k, p in enumerate(pieces))
        self._expression = re.compile(f"(?:^|.*/){text}", re.DOTALL)

    def read(
        self, path: Path, zone: datetime.tzinfo | None = None
    ) -> tuple[str | None, float | None]:
        """Camera and seconds since 1970 that a path tells; None for what it does not.

        Args:
            path: of the file.
            zone: of its date and time; None for this machine's.
        """
        match = self._expression.fullmatch(path.with_suffix("").as_posix())
        if match is None:
            return None, None
        found = match.groupdict()
        if found.get("epoch"):
            return found.get("camera"), float(found["epoch"])
        if not found.get("year"):
            return found.get("camera"), None
        names = ("year", "month", "day", "hour", "minute", "second")
        numbers = [int(found.get(name) or 0) for name in names]
        return found.get("camera"), moment(numbers, zone)


def moment(numbers: list[int], zone: datetime.tzinfo | None) -> float | None:
    """Seconds since 1970 of year, month, day, hour, minute and second; None if there is no such.

    Args:
        numbers: the six.
        zone: where; None for this machine's.
    """
    try:
        year, month, day, hour, minute, second = numbers
        when = datetime.datetime(year, month, day, hour, minute, second, tzinfo=zone)
        return when.timestamp()
    except (ValueError, OverflowError, OSError):
        return None
