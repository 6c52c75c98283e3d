"""Camera and time out of names, whatever stands in them."""

import datetime
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from personsearch.errors import DataError
from personsearch.media.name_pattern import NamePattern, time_zone

UTC = datetime.UTC
NOON = datetime.datetime(2026, 11, 21, 12, 30, 15, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("pattern", "path", "camera", "time"),
    [
        ("{camera}/{date}_{time}", "/v/gate/20261121_123015.mp4", "gate", NOON),
        ("{camera}/{date}_{time}", "/v/gate/2026-11-21_12-30-15.mp4", "gate", NOON),
        ("{camera}/{date}/{any}-{time}", "/v/gate/2026.11.21/rec-12.30.15.mp4", "gate", NOON),
        ("{camera}/{any}/{time}{date}", "/v/gate/x/123015_20261121.mp4", None, None),
        ("{camera}_{epoch}", f"/v/a_b_{int(NOON)}.jpg", "a_b", NOON),
        ("{date}_{time}", "20261121_1230.mp4", None, NOON - 15),
        ("{date}", "/v/20261121.mp4", None, NOON - 12.5 * 3600 - 15),
        ("{camera}-{any}", "/v/Tür 🚪\nhinten-7.jpg", "Tür 🚪\nhinten", None),
        # What is outside of the placeholders stands for itself.
        ("cam(.*)[{camera}]", "/v/cam(.*)[3].jpg", "3", None),
        ("cam(.*)[{camera}]", "/v/cam77[3].jpg", None, None),
        # A pattern begins where a name does, and no placeholder reaches over a slash.
        ("ate/{date}_{time}", "/v/gate/20261121_123015.mp4", None, None),
        ("{camera}/{date}", "/v/gate/deep/x/20261121.mp4", "x", NOON - 12.5 * 3600 - 15),
        # There is no thirteenth month; the camera still stands there.
        ("{camera}/{date}_{time}", "/v/gate/20261321_123015.mp4", "gate", None),
    ],
)
def test_what_a_path_tells(pattern: str, path: str, camera: str | None, time: float | None) -> None:
    assert NamePattern(pattern).read(Path(path), UTC) == (camera, time)


def test_the_zone_counts() -> None:
    pattern = NamePattern("{date}_{time}")
    berlin = pattern.read(Path("20261121_133015.mp4"), ZoneInfo("Europe/Berlin"))
    assert berlin == (None, NOON)
    here = datetime.datetime(2026, 11, 21, 13, 30, 15).timestamp()
    assert pattern.read(Path("20261121_133015.mp4")) == (None, here)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{camera}/{number}", r"\{number\} is not a placeholder; expected \{camera\}"),
        ("{camera}/{camera}", r"\{camera\} appears twice"),
        ("clips/{any}", "has no placeholder"),
        ("{time}", r"expected \{date\}"),
        ("{date}_{epoch}", r"expected \{date\}"),
    ],
)
def test_patterns_that_make_no_sense(pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        NamePattern(pattern)


def test_a_hostile_name_takes_no_time() -> None:
    with pytest.raises(DataError, match="more than 3"):
        NamePattern("{any}-{camera}-{any}-{any}_{date}")
    pattern = NamePattern("{any}-{camera}-{any}_{date}")
    assert pattern.read(Path("-" * 250)) == (None, None)


def test_a_time_zone_by_its_name() -> None:
    assert time_zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    for wrong in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(DataError, match="is not a time zone of this machine"):
            time_zone(wrong)


@pytest.mark.parametrize(
    "text",
    ["{any}{any}{camera}x/{any}{any}{any}{date}", "{any}{any}{camera}{date}/{any}-{any}1{any}y"],
)
def test_long_names_take_milliseconds(text: str) -> None:
    pattern = NamePattern(text)
    began = time.process_time()
    for letter in "x1-":
        assert pattern.read(Path(f"/{letter * 250}/{letter * 250}/b.jpg")) == (None, None)
    assert time.process_time() - began < 0.5


def test_free_placeholders_side_by_side_are_as_one() -> None:
    pattern = NamePattern("{any}{any}{camera}-{date}")
    day = NOON - 12.5 * 3600 - 15
    assert pattern.read(Path("/v/gate 3-20261121.jpg"), UTC) == ("gate 3", day)
    assert NamePattern("{camera}{any}-{date}").read(Path("gate-20261121.jpg"), UTC) == ("g", day)
    assert NamePattern("{camera}/{any}/{date}").read(Path("x/20261121.jpg"), UTC) == (None, None)
