"""What all charts share: their look, and how they are saved."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from personsearch.errors import DataError

_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def new_chart(width: float, height: float) -> Figure:
    """An empty chart, its size in inches; add axes with ``subplots``."""
    return Figure(figsize=(width, height), layout="constrained")


def tidy(*panels: Axes) -> None:
    """Give panels a light grid, no frame above and at the right, and a legend where named."""
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        # matplotlib warns about an empty legend.
        if panel.get_legend() is None and panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, fontsize=8)


def save_chart(chart: Figure, path: Path) -> None:
    """Save in the format that the ending of `path` names. Equal charts give equal bytes.

    Raises:
        DataError: the folder does not exist, or the ending names no picture format.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in chart.canvas.get_supported_filetypes():
        raise DataError(f"{path}: cannot save a chart as {path.suffix!r}; use .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}; create it first")
    with matplotlib.rc_context({"svg.hashsalt": "personsearch"}):
        chart.savefig(path, dpi=110, metadata=_UNDATED.get(kind))
