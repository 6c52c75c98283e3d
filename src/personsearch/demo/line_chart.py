"""Line charts inside the page: SVG from matplotlib, once for light and once for dark displays."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from personsearch.plots.charts import new_chart

# Lines differ in dash as well as in colour.
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1)), (0, (7, 2)))


@dataclass(frozen=True)
class Theme:
    """Colours of a chart: `text`, `grid`, and one for each line."""

    text: str
    grid: str
    lines: tuple[str, ...]


# As in page.css.
LIGHT = Theme(
    "#566072", "#d9dee5", ("#1f5fd0", "#b8500c", "#12702f", "#8a3ab9", "#b3202c", "#566072")
)
DARK = Theme(
    "#a3adbc", "#303947", ("#79a9ff", "#f2a35e", "#5cc97c", "#cf9bf2", "#ff8a8a", "#a3adbc")
)


@dataclass(frozen=True)
class LineChart:
    """A drawn chart: its caption, a description in words, and ``data:`` addresses of its SVG."""

    title: str
    description: str
    light: str
    dark: str


def line_chart(
    title: str,
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    x_label: str,
    y_label: str,
    *,
    limits: tuple[float | None, float | None] = (None, None),
    markers: bool = False,
) -> LineChart:
    """Draw one line per name, both axes from zero, with a legend.

    Args:
        series: x and y values by name; points that are not finite are left out.
        y_label: name of the values, for the description.
        limits: ends of the axes; by default at or just above the largest value.
    """
    points = {name: _finite(x, y) for name, (x, y) in series.items()}
    ends = "; ".join(
        f"{name}: from {p[0, 1]:.3g} to {p[-1, 1]:.3g}" for name, p in points.items() if len(p)
    )
    return LineChart(
        title,
        f"{title}. {y_label} over {x_label}. {ends or 'No points'}.",
        *(_svg_address(_draw(points, x_label, limits, markers, theme)) for theme in (LIGHT, DARK)),
    )


def _finite(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Return the (K, 2) points that are finite."""
    points = np.stack([np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()], 1)
    return points[np.isfinite(points).all(axis=1)]


def _draw(
    points: Mapping[str, NDArray[np.float64]],
    x_label: str,
    limits: tuple[float | None, float | None],
    markers: bool,
    theme: Theme,
) -> Figure:
    chart = new_chart(4.8, 3.4)
    panel = chart.subplots()
    for number, (name, p) in enumerate(points.items()):
        k = number % len(_DASHES)
        dots = "o" if markers or len(p) == 1 else ""
        (line,) = panel.plot(*p.T, label=name, color=theme.lines[k], linestyle=_DASHES[k])
        line.set(linewidth=1.6, marker=dots, markersize=4, clip_on=False)
    last = max((p[:, 0].max() for p in points.values() if len(p)), default=None)
    panel.set_xlim(0, limits[0] or last)
    panel.set_ylim(0, limits[1])
    panel.set_xlabel(x_label, color=theme.text)
    panel.tick_params(length=0, pad=6, labelcolor=theme.text)
    panel.locator_params(nbins=6, steps=[1, 2, 5, 10])
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:g}")
    panel.grid(axis="y", color=theme.grid)
    panel.set_axisbelow(True)
    panel.spines[:].set_visible(False)
    panel.spines["bottom"].set(visible=True, color=theme.text)
    if points:
        legend = chart.legend(loc="outside lower left", ncols=4, handlelength=3, fontsize=8)
        legend.set(frame_on=False)
        for text in legend.get_texts():
            text.set_color(theme.text)
    return chart


def _svg_address(chart: Figure) -> str:
    """Encode a chart as a ``data:image/svg+xml`` address; text stays text."""
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "personsearch", "svg.fonttype": "none"}):
        chart.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
