"""Counts of several runs, and of what a writer has written."""

import json
from pathlib import Path

from personsearch.indexing.report import IndexReport, Tally
from personsearch.indexing.writer import Ended
from personsearch.media.files import Media
from personsearch.media.streams import StreamReport
from personsearch.types import FileStamp


def test_reports_add_up() -> None:
    whole = IndexReport(pictures=3, people=5, files=2, skipped=1, seconds=2.0, waited=0.5)
    whole.add(IndexReport(pictures=1, people=1, skipped=4, pruned=2, seconds=2.0, interrupted=True))
    assert (whole.pictures, whole.people, whole.files, whole.skipped) == (4, 6, 2, 5)
    assert (whole.pruned, whole.seconds, whole.interrupted, whole.rate) == (2, 4.0, True, 1.0)
    assert json.loads(json.dumps(whole.as_json()))["rate"] == 1.0


def test_a_block_is_measured_and_ctrl_c_noted() -> None:
    report = IndexReport()
    with report.measured():
        raise KeyboardInterrupt
    assert report.interrupted
    assert report.seconds > 0


def test_files_are_counted_once_they_are_written() -> None:
    report = IndexReport(skipped=2)
    told: list[tuple[int, int]] = []
    tally = Tally(report, 5, lambda done, total, _: told.append((done, total)))
    media = Media("/s", "a.mp4", Path("/s/a.mp4"), "video", FileStamp(1, 1), "gate")
    tally.count([Ended(media, pictures=3, people=4)])
    tally.count([Ended(media, "is empty (0 bytes)")])
    assert (report.files, report.pictures, report.people) == (1, 3, 4)
    assert [(one.path, one.reason) for one in report.unreadable] == [
        (Path("/s/a.mp4"), "is empty (0 bytes)")
    ]
    assert told == [(3, 5), (4, 5)]


def test_the_json_keeps_the_name_place() -> None:
    report = IndexReport(streams=[StreamReport("rtsp://cam/1", "gate")])
    (stream,) = report.as_json()["streams"]
    assert (stream["place"], stream["uri"]) == ("rtsp://cam/1", "rtsp://cam/1")
