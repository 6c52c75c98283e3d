"""Line charts as inline SVG: no pixels, no script, colours and fonts of the page they stand in.

The page's style decides the look: ``.chart`` holds the whole, ``.grid``, ``.axis`` and
``.series-1`` .. ``.series-6`` are its lines. Lines differ in dash as well as in colour.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personsearch.demo.markup import Markup, element, join

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 44
_MOST_POINTS = 300
SERIES = 6
"""How many lines the style tells apart; further ones start again."""


def line_chart(
    title: str,
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str = "",
    x_limit: float | None = None,
    y_limit: float | None = None,
    markers: bool = False,
) -> Markup:
    """A figure with one line a name, both axes from zero, and a legend.

    Args:
        title: the caption.
        series: x and y values by name; points that are not finite are left out.
        x_label: below the horizontal axis.
        y_label: in the text for those who cannot see the chart.
        x_limit: end of the axis; by default the largest value.
        y_limit: likewise.
        markers: mark each point.
    """
    points = {name: _points(x, y) for name, (x, y) in series.items()}
    some = [p for p in points.values() if len(p)]
    everything = np.concatenate(some) if some else np.zeros((1, 2))
    x_ticks = ticks(x_limit or float(everything[:, 0].max()))
    y_ticks = ticks(y_limit or float(everything[:, 1].max()))
    x_end = x_limit or max(float(everything[:, 0].max()), 1e-9)
    y_end = max(y_limit or y_ticks[-1], 1e-9)
    scale = np.array([(WIDTH - _LEFT - _RIGHT) / x_end, (HEIGHT - _TOP - _BOTTOM) / y_end])
    drawn = [
        _line(number % SERIES + 1, p * scale, markers)
        for number, p in enumerate(points.values())
        if len(p)
    ]
    said = "; ".join(
        f"{name}: from {p[0, 1]:.3g} to {p[-1, 1]:.3g}" for name, p in points.items() if len(p)
    )
    picture = element(
        "svg",
        *_axes(x_ticks, y_ticks, scale, x_label),
        *drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}. {y_label or 'value'} over {x_label}. {said or 'No points'}.",
    )
    legend = element(
        "ul",
        *(element("li", _key(number % SERIES + 1), name) for number, name in enumerate(points)),
        class_="legend",
    )
    return element("figure", element("figcaption", title), picture, legend, class_="chart")


def ticks(end: float, most: int = 5) -> list[float]:
    """Round numbers from zero, the last of them at `end` or just above."""
    if not end > 0 or not math.isfinite(end):
        return [0.0, 1.0]
    rough = end / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= rough * (1 - 1e-9))
    return [step * k for k in range(math.ceil(end / step - 1e-9) + 1)]


def _points(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """(K, 2) finite points, thinned out to what a small chart can show."""
    points = np.stack([np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()], 1)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) > _MOST_POINTS:
        points = points[np.linspace(0, len(points) - 1, _MOST_POINTS).round().astype(int)]
    return points


def _axes(
    x_ticks: Sequence[float], y_ticks: Sequence[float], scale: NDArray[np.float64], x_label: str
) -> list[Markup]:
    floor, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    drawn = []
    for tick in y_ticks:
        y = round(floor - tick * float(scale[1]), 1)
        drawn.append(
            element("line", class_="grid" if tick else "axis", x1=_LEFT, x2=right, y1=y, y2=y)
        )
        drawn.append(element("text", f"{tick:g}", x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for tick in x_ticks:
        x = round(_LEFT + tick * float(scale[0]), 1)
        if x <= right + 1:
            drawn.append(element("text", f"{tick:g}", x=x, y=floor + 18, text_anchor="middle"))
    middle = (_LEFT + right) / 2
    drawn.append(element("text", x_label, x=middle, y=HEIGHT - 6, text_anchor="middle"))
    return drawn


def _line(style: int, points: NDArray[np.float64], markers: bool) -> Markup:
    places = [(_LEFT + x, HEIGHT - _BOTTOM - y) for x, y in points.tolist()]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    line = element("polyline", points=path, class_=f"series-{style}")
    if not markers and len(places) > 1:
        return line
    dots = (
        element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, class_=f"dot-{style}")
        for x, y in places
    )
    return join(line, *dots)


def _key(style: int) -> Markup:
    line = element("line", class_=f"series-{style}", x1=0, x2=26, y1=5, y2=5)
    return element("svg", line, viewBox="0 0 26 10", class_="key", aria_hidden="true")
