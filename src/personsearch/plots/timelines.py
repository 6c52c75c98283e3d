"""A chart of where a person was seen, one row per camera."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from matplotlib import dates
from matplotlib.axes import Axes

from personsearch.plots.charts import new_chart, save_chart, tidy
from personsearch.search.timeline import Sighting


def plot_timeline(sightings: Sequence[Sighting], path: Path, title: str = "") -> None:
    """Draw sightings over local time; darker means more similar.

    Sightings without a time are in a second panel, one row per file, over seconds of their video.
    """
    dated = [one for one in sightings if one.begin is not None]
    undated = [one for one in sightings if one.begin is None]
    cameras = sorted({one.camera or "?" for one in dated})
    files = sorted({_file(one) for one in undated})
    heights = [0.9 + 0.35 * len(names) for names in (cameras, files) if names] or [1.0]
    chart = new_chart(9.0, 0.5 + sum(heights))
    panels = list(chart.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    if title:
        chart.suptitle(title, fontsize=10)
    if not sightings:
        panels[0].text(0.5, 0.5, "not seen", ha="center", va="center")
        panels[0].set_axis_off()
    if dated:
        spans = [(_day(one.begin), _day(one.end)) for one in dated]
        _bars(panels[0], dated, cameras, [one.camera or "?" for one in dated], spans)
        # Matplotlib's dates have no types, here and below.
        locator = dates.AutoDateLocator()  # type: ignore[no-untyped-call]
        panels[0].xaxis.set_major_locator(locator)
        formatter = dates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
        panels[0].xaxis.set_major_formatter(formatter)
    if undated:
        spans = [(one.first or 0.0, one.last or 0.0) for one in undated]
        _bars(panels[-1], undated, files, [_file(one) for one in undated], spans)
        panels[-1].set_xlabel("seconds from the start of the file")
    save_chart(chart, path)


def _file(sighting: Sighting) -> str:
    name = "" if sighting.path is None else sighting.path.name
    return f"{sighting.camera or '?'}: {name}"


def _day(seconds: float | None) -> float:
    """Local time as matplotlib's date number."""
    moment = datetime.datetime.fromtimestamp(seconds or 0.0)
    day: float = dates.date2num(moment)  # type: ignore[no-untyped-call]
    return day


def _bars(
    panel: Axes,
    sightings: Sequence[Sighting],
    names: Sequence[str],
    rows: Sequence[str],
    spans: Sequence[tuple[float, float]],
) -> None:
    """Draw one bar per sighting in the row that `rows` names."""
    tidy(panel)
    panel.grid(visible=False, axis="y")
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    similarity = [one.similarity for one in sightings]
    low, high = min(similarity), max(similarity)
    for one, name, (start, stop) in zip(sightings, rows, spans, strict=True):
        row = names.index(name)
        alpha = 1.0 if high == low else 0.35 + 0.65 * (one.similarity - low) / (high - low)
        panel.barh(row, stop - start, left=start, height=0.5, color="tab:blue", alpha=alpha)
        # The bar of a single moment has no length; the dots keep it visible.
        panel.plot([start, stop], [row, row], "o", markersize=5, color="tab:blue", alpha=alpha)
