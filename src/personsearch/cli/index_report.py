"""What `personsearch index` shows while it works, and at its end."""

import time
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from personsearch.indexing.report import IndexReport

_SHOWN = 10  # files that could not be read, before the rest is only counted


class IndexBar:
    """Files done, people found, pictures a second, time left."""

    def __init__(self, hidden: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("indexing"),
            BarColumn(),
            TextColumn("{task.fields[files]}"),
            TextColumn("{task.fields[found]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=hidden,
        )
        self._task = self._bars.add_task("indexing", total=None, files="", found="")
        self._began: float | None = None

    def __enter__(self) -> "IndexBar":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, done: int, total: int, report: "IndexReport") -> None:
        """Photos and videos: files done, of all."""
        files = f"{done}/{total} files"
        self._bars.update(
            self._task, completed=done, total=total, files=files, found=self._found(report)
        )

    def show_live(self, report: "IndexReport") -> None:
        """Live cameras: those that have sent anything."""
        live = sum(1 for one in report.streams if one.connections)
        files = f"{live}/{len(report.streams)} cameras"
        self._bars.update(self._task, files=files, found=self._found(report))

    def _found(self, report: "IndexReport") -> str:
        now = time.monotonic()
        if self._began is None:
            self._began = now
        rate = report.pictures / (now - self._began) if now > self._began else 0.0
        return f"{report.people} people in {report.pictures} pictures, {rate:.1f}/s"


def print_report(report: "IndexReport", place: str, counts: dict[str, int], whole: bool) -> None:
    """The summary; what went wrong goes to stderr.

    Args:
        report: of all that was done.
        place: the store's folder.
        counts: what is in the store.
        whole: whether it ended as it was meant to.
    """
    typer.echo(
        f"{report.people} people in {report.pictures} pictures of {report.files} files, "
        f"{report.rate:.1f} pictures/s; {report.skipped} files were there already"
    )
    for one in report.streams:
        typer.echo(
            f"{one.camera}: {one.pictures} pictures, {one.dropped} dropped for newer ones, "
            f"{one.connections} connections, {one.breaks} breaks"
        )
        for reason, count in one.reasons.items():
            typer.echo(f"  {count} x {reason}", err=True)
    if report.pruned:
        typer.echo(f"{report.pruned} people erased, whose files are gone")
    if report.unreadable:
        typer.echo(f"{len(report.unreadable)} could not be read:", err=True)
        for left in report.unreadable[:_SHOWN]:
            typer.echo(f"  {left.path}: {left.reason}", err=True)
        if len(report.unreadable) > _SHOWN:
            more = len(report.unreadable) - _SHOWN
            typer.echo(f"  and {more} more, which --json lists", err=True)
    if report.interrupted and not whole:
        typer.echo("interrupted: the same command goes on from here", err=True)
    tracks = f", {counts['tracks']} tracks in videos" if counts["tracks"] else ""
    typer.echo(f"{place}: {counts['people']} views of people{tracks}")
