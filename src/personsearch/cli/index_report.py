"""The progress bar and the summary of `personsearch index`."""

import time
from typing import TYPE_CHECKING

from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.indexing.report import IndexReport
    from personsearch.indexing.session import IndexResult

_SHOWN = 10  # unreadable files that are listed, before the rest is only counted


class IndexBar:
    """Files done, people found, pictures a second, time left."""

    def __init__(self, hidden: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from personsearch.terminal import console

        self.bars = Progress(
            TextColumn("indexing"),
            BarColumn(),
            TextColumn("{task.fields[files]}"),
            TextColumn("{task.fields[found]}"),
            TimeRemainingColumn(),
            console=console(stderr=True),
            transient=True,
            disable=hidden,
        )
        self._task = self.bars.add_task("indexing", total=None, files="", found="")
        self._began: float | None = None

    def show(self, done: int, total: int, report: "IndexReport") -> None:
        """Show the files done of all, or the cameras that have sent anything."""
        self._began = self._began or time.monotonic()
        elapsed = time.monotonic() - self._began
        rate = report.pictures / elapsed if elapsed else 0.0
        found = f"{report.people} people in {report.pictures} pictures, {rate:.1f}/s"
        if report.streams:
            sending = sum(1 for one in report.streams if one.connections)
            files = f"{sending}/{len(report.streams)} cameras"
            self.bars.update(self._task, files=files, found=found)
        else:
            files = f"{done}/{total} files"
            self.bars.update(self._task, completed=done, total=total, files=files, found=found)


def print_report(result: "IndexResult", uri: str) -> None:
    """Print the summary; errors go to stderr."""
    report = result.report
    echo(
        f"{report.people} people in {report.pictures} pictures of {report.files} files, "
        f"{report.rate:.1f} pictures/s; {report.skipped} files were there already"
    )
    for one in report.streams:
        echo(
            f"{one.camera}: {one.pictures} pictures, {one.dropped} dropped for newer ones, "
            f"{one.connections} connections, {one.breaks} breaks"
        )
        for reason, count in one.reasons.items():
            echo(f"  {count} x {reason}", err=True)
    if report.pruned:
        echo(f"{report.pruned} people erased, whose files are gone")
    if report.unreadable:
        echo(f"{len(report.unreadable)} left out:", err=True)
        for left in report.unreadable[:_SHOWN]:
            echo(f"  {left.path}: {left.reason}", err=True)
        if more := report.unreadable[_SHOWN:]:
            echo(f"  and {len(more)} more, which --json lists", err=True)
    if not result.complete:
        echo("interrupted: the same command resumes from here", err=True)
    tracks = result.counts.get("tracks")
    tracks_too = f", {tracks} tracks in videos" if tracks else ""
    echo(f"{uri}: {result.counts['people']} views of people{tracks_too}")
    if result.expired:
        echo(f"{result.expired} people older than the store keeps were erased")
