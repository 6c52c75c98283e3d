"""One page that shows what a system does: metrics, queries with their hits, how it was made.

The page is a single file that fetches and runs nothing. Pictures and charts are ``data:``
addresses, and the content security policy allows the page's own style and no more.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.datasets.dataset import Dataset
from personsearch.demo.embedded import Embedded, embed, whole_scene
from personsearch.demo.line_chart import LineChart, line_chart
from personsearch.demo.showcase import Example
from personsearch.evaluation.comparison import Comparison
from personsearch.evaluation.scoring import RankedHit
from personsearch.media.pictures import read_scene
from personsearch.plots import pages
from personsearch.plots.rankings import GREEN, RED, thumbnail
from personsearch.plots.tables import TextTable, detection_table, percent, search_table
from personsearch.types import Query, Scene

_Lines = dict[str, tuple[list[float], list[float]]]  # x and y by name

_KEPT_PICTURES = 32  # decoded pictures at a time; queries share few scenes with each other


@dataclass(frozen=True, eq=False)
class Result:
    """What was measured on one data set; the examples are queries of its first protocol."""

    dataset: Dataset  # its test split holds the scenes of the first protocol
    compared: Comparison  # the first row is of the first protocol
    examples: Sequence[Example]


@dataclass(frozen=True)
class Step:
    """One step of the demo, and how long it took."""

    name: str
    seconds: float
    earlier: bool = False  # whether an earlier run did it, and this one reused its result


@dataclass(frozen=True, eq=False)
class Page:
    """Everything that the page shows."""

    title: str
    summary: str  # one sentence that says what it is
    results: Sequence[Result]  # one per data set
    log: Sequence[Mapping[str, Any]]  # of the training run, see `read_log`; empty without one
    steps: Sequence[Step]  # in order, without writing the page
    machine: Mapping[str, str]  # facts about it, by name
    command: str  # makes this page again
    recipe: str = ""  # the TOML that trained the system; empty if nothing was trained


def write_page(page: Page, path: Path) -> list[Step]:
    """Write the page, complete or not at all; return its steps, writing it the last of them.

    Raises:
        PictureError: a picture cannot be read.
        DataError: the file cannot be written.
    """
    began = time.perf_counter()
    steps = list(page.steps)

    def finished() -> TextTable:
        """Return the steps; the template calls it after everything that takes time."""
        steps.append(Step("write this page", time.perf_counter() - began))
        return _steps_table(steps)

    text = pages.render(
        "personsearch.demo",
        {"percent": percent, "width": _width},
        page=page,
        pictures_of=lambda result: _Pictures(result.dataset.split("test")),
        search_table=search_table,
        detection_table=detection_table,
        charts=_charts(page),
        steps=finished,
        machine=TextTable("Machine", ("what", "which"), list(page.machine.items())),
    )
    pages.write(path, text)
    return steps


def duration(seconds: float) -> str:
    """Format seconds as ``0.4 s``, ``12 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _width(share: float) -> str:
    """Format a share of the bar as an SVG length; NaN is zero."""
    return f"{0.0 if np.isnan(share) else share * 100:.1f}%"


class _Pictures:
    """Pictures of scenes for the template, with a cache of the decoded ones."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._scenes = {scene.name: scene for scene in scenes}
        self._read = lru_cache(_KEPT_PICTURES)(lambda name: read_scene(self._scenes[name]))

    def camera(self, name: str) -> str:
        camera = self._scenes[name].camera
        return "" if camera is None else f"camera {camera}"

    def scene(self, query: Query) -> Embedded:
        return embed(whole_scene(self._read(query.scene), query.box))

    def person(self, query: Query) -> Embedded:
        return embed(thumbnail(self._read(query.scene), query.box))

    def hit(self, hit: RankedHit) -> Embedded:
        color = GREEN if hit.correct else RED
        return embed(thumbnail(self._read(hit.scene), hit.box, color=color))


def _charts(page: Page) -> Iterator[LineChart]:
    detection = {}
    for result in page.results:
        # The curve of the lowest threshold contains the others.
        widest = result.compared.detection[min(result.compared.detection)]
        detection[result.dataset.name] = (widest.curve_recall, widest.curve_precision)
    title, labels = "Detection: precision over recall", ("recall", "precision")
    yield line_chart(title, detection, *labels, limits=(1, 1))
    for stage in dict.fromkeys(report["stage"] for report in page.log):
        losses = _over_iterations([r for r in page.log if r["stage"] == stage], "losses")
        yield line_chart(f"Training losses, stage “{stage}”", losses, "iteration", "loss")
    validated = [report for report in page.log if report.get("validation")]
    if validated:
        title, labels = "Validation while training", ("iteration", "metric")
        metrics = _over_iterations(validated, "validation")
        yield line_chart(title, metrics, *labels, limits=(None, 1), markers=True)


def _over_iterations(reports: Sequence[Mapping[str, Any]], key: str) -> _Lines:
    lines: _Lines = {}
    for report in reports:
        for name, value in report[key].items():
            x, y = lines.setdefault(name.replace("_", " "), ([], []))
            x.append(report["iteration"])
            y.append(value)
    return lines


def _steps_table(steps: Sequence[Step]) -> TextTable:
    notes = {True: ", in an earlier run", False: ""}
    rows = [(step.name, duration(step.seconds) + notes[step.earlier]) for step in steps]
    rows.append(("together", duration(sum(step.seconds for step in steps))))
    return TextTable("Steps", ("step", "time"), rows)
