"""Line charts show every finite point, in both themes, and always in the same bytes."""

import base64
import re
from xml.etree import ElementTree

import numpy as np

from personsearch.demo.line_chart import DARK, LIGHT, line_chart

SERIES = {"first": ([0, 1, 2, 3], [4, np.nan, 2, 1]), "second": ([], [])}


def svg(address: str) -> str:
    head, _, body = address.partition(",")
    assert head == "data:image/svg+xml;base64"
    text = base64.b64decode(body).decode("utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    return text


def test_both_themes_hold_the_line_and_its_name() -> None:
    chart = line_chart("t", SERIES, x_label="x <b>", y_label="loss", markers=True)
    for text, theme in ((svg(chart.light), LIGHT), (svg(chart.dark), DARK)):
        assert "first</text>" in text
        assert "x &lt;b&gt;</text>" in text
        drawn = re.findall(rf'<path d="([^"]*)" style="[^"]*stroke: {theme.lines[0]}', text)
        path = max(drawn, key=lambda d: d.count("L"))  # the legend has a shorter one
        places = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path), float)
        assert len(places) == 3  # the point that is not finite is left out
        assert (np.diff(places[:, 0]) > 0).all()
        assert (np.diff(places[:, 1]) > 0).all()  # values fall
    assert chart.description == "t. loss over x <b>. first: from 4 to 1."


def test_equal_charts_are_equal_bytes() -> None:
    one, two = (line_chart("t", SERIES, x_label="x", y_label="y") for _ in range(2))
    assert one == two


def test_a_chart_without_points_says_so() -> None:
    chart = line_chart("t", {}, x_label="x", y_label="y", limits=(1, 1))
    assert "No points" in chart.description
    svg(chart.light)
