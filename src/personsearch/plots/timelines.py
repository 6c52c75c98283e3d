"""A person's time line, a row a camera, as a picture."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from matplotlib import dates
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from personsearch.search.timeline import Sighting


def plot_timeline(sightings: Sequence[Sighting], path: Path, title: str = "") -> None:
    """Sightings over the time of this machine; darker is more alike.

    Those without a time stand in a second panel, a row a file, over seconds of their video.

    Args:
        sightings: as `timeline` gives them.
        path: of the picture, a .svg or .png.
        title: above it.
    """
    dated = [one for one in sightings if one.begin is not None]
    undated = [one for one in sightings if one.begin is None]
    rows = [sorted({one.camera or "?" for one in dated}), sorted({_file(one) for one in undated})]
    heights = [0.9 + 0.35 * len(names) for names in rows if names] or [1.0]
    figure = Figure(figsize=(9.0, 0.5 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    if title:
        figure.suptitle(title, fontsize=10)
    if not sightings:
        panels[0].text(0.5, 0.5, "not seen", ha="center", va="center")
        panels[0].set_axis_off()
    else:
        used = iter(panels)
        if dated:
            panel = next(used)
            _rows(panel, rows[0])
            spans = [(_day(one.begin), _day(one.end)) for one in dated]
            _bars(panel, dated, [rows[0].index(one.camera or "?") for one in dated], spans)
            locator = dates.AutoDateLocator()  # type: ignore[no-untyped-call]
            panel.xaxis.set_major_locator(locator)
            formatter = dates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
            panel.xaxis.set_major_formatter(formatter)
        if undated:
            panel = next(used)
            _rows(panel, rows[1])
            spans = [(one.first or 0.0, one.last or 0.0) for one in undated]
            _bars(panel, undated, [rows[1].index(_file(one)) for one in undated], spans)
            panel.set_xlabel("seconds from the start of the file")
    figure.savefig(path, dpi=110)


def _file(sighting: Sighting) -> str:
    name = "" if sighting.path is None else sighting.path.name
    return f"{sighting.camera or '?'}: {name}"


def _day(seconds: float | None) -> float:
    """Days since 1970 on this machine's clock, as matplotlib counts."""
    moment = datetime.datetime.fromtimestamp(seconds or 0.0)
    day: float = dates.date2num(moment)  # type: ignore[no-untyped-call]
    return day


def _rows(panel: object, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), names)  # type: ignore[attr-defined]
    panel.set_ylim(len(names) - 0.4, -0.6)  # type: ignore[attr-defined]
    panel.grid(axis="x", alpha=0.25)  # type: ignore[attr-defined]
    panel.spines[["top", "right"]].set_visible(False)  # type: ignore[attr-defined]


def _bars(
    panel: object,
    sightings: Sequence[Sighting],
    rows: Sequence[int],
    spans: Sequence[tuple[float, float]],
) -> None:
    best = [one.similarity for one in sightings]
    low, high = min(best), max(best)
    for one, row, (start, stop) in zip(sightings, rows, spans, strict=True):
        shade = 1.0 if high == low else 0.35 + 0.65 * (one.similarity - low) / (high - low)
        style = {"color": "tab:blue", "alpha": shade}
        panel.barh(row, stop - start, left=start, height=0.5, **style)  # type: ignore[attr-defined]
        # A moment has no length, and is to be seen all the same.
        panel.plot([start, stop], [row, row], "o", markersize=5, **style)  # type: ignore[attr-defined]
