"""The summary of a run, and what the bar shows."""

from pathlib import Path

import pytest

from personsearch.cli.index_report import IndexBar, print_report
from personsearch.indexing.report import IndexReport
from personsearch.indexing.session import IndexResult
from personsearch.media.files import Skipped
from personsearch.media.streams import StreamReport


def test_the_summary_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    left = [Skipped(Path(f"/photos/{k:02}.jpg"), "is not a picture") for k in range(15)]
    report = IndexReport(pictures=1, people=2, files=1, pruned=4, seconds=0.5, unreadable=left)
    print_report(IndexResult(report, {"people": 2, "tracks": 1}, 3, complete=True), "/store")
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "2 people in 1 pictures of 1 files, 2.0 pictures/s; 0 files were there already",
        "4 people erased, whose files are gone",
        "/store: 2 views of people, 1 tracks in videos",
        "3 people older than the store keeps were erased",
    ]
    lines = err.splitlines()
    assert lines[0] == "15 left out:"
    assert lines[10] == "  /photos/09.jpg: is not a picture"
    assert lines[11:] == ["  and 5 more, which --json lists"]


def test_cameras_and_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    gate = StreamReport("rtsp://gate", "gate", 9, 2, 3, 4, {"ended": 4})
    result = IndexResult(IndexReport(streams=[gate]), {"people": 0}, 0, complete=False)
    print_report(result, "milvus://m/people")
    out, err = capsys.readouterr()
    assert "gate: 9 pictures, 2 dropped for newer ones, 3 connections, 4 breaks\n" in out
    assert out.endswith("milvus://m/people: 0 views of people\n")
    assert "  4 x ended\n" in err
    assert "interrupted: the same command resumes from here" in err


def test_the_bar_counts_files_or_cameras(capsys: pytest.CaptureFixture[str]) -> None:
    for hidden in (True, False):
        bar = IndexBar(hidden)
        with bar.bars:
            bar.show(3, 7, IndexReport(pictures=5, people=2))
            task = bar.bars.tasks[0]
            assert (task.completed, task.total, task.fields["files"]) == (3, 7, "3/7 files")
            assert task.fields["found"].startswith("2 people in 5 pictures, ")
            live = [StreamReport("rtsp://a", "a", connections=1), StreamReport("rtsp://b", "b")]
            bar.show(0, 0, IndexReport(streams=live))
            assert bar.bars.tasks[0].fields["files"] == "1/2 cameras"
