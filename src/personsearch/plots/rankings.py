"""Pictures of a ranking: the query at the left, then its hits in order, each with its box.

All pictures are RGB (H, W, 3) uint8. A border is green for a correct hit, red for a wrong one, and
grey where the ground truth is unknown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from personsearch.errors import DataError

Picture = NDArray[np.uint8]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")

GREEN, RED, GREY, BLUE = (46, 160, 67), (207, 34, 46), (140, 140, 140), (31, 111, 235)
_BLACK = (30, 30, 30)
_BORDER, _GAP, _LINE = 4, 8, 16  # pixels


@dataclass(frozen=True, eq=False)
class Panel:
    """One person in one picture."""

    picture: Picture  # whole
    box: ArrayLike  # (4,) x1, y1, x2, y2 in pixels
    lines: Sequence[str] = ()  # of text below it
    correct: bool | None = None  # whether it shows the query person; None if unknown


def thumbnail(
    picture: Picture,
    box: ArrayLike,
    *,
    size: tuple[int, int] = (160, 240),
    context: float = 0.25,
    color: tuple[int, int, int] | None = BLUE,
) -> Picture:
    """Return the box and its surroundings at a fixed size, with the box drawn.

    The crop has the thumbnail's aspect ratio and lies inside the picture where that is large
    enough. Otherwise it is padded with grey, so that people are never stretched.

    Args:
        picture: the whole picture.
        box: (4,) x1, y1, x2, y2 in pixels.
        size: (width, height).
        context: margin on each side, as a share of the box's width and height.
        color: colour of the outline; None draws none.

    Raises:
        DataError: the box is empty or lies outside of the picture.
    """
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = (float(side) for side in np.asarray(box, dtype=np.float64).reshape(4))
    if not (x1 < x2 and y1 < y2 and x1 < width and y1 < height and x2 > 0 and y2 > 0):
        raise DataError(
            f"box {[x1, y1, x2, y2]} lies outside of its picture of {width} x {height} pixels; "
            "expected x1 < x2, y1 < y2 and some overlap"
        )
    cut_width, cut_height = (x2 - x1) * (1 + 2 * context), (y2 - y1) * (1 + 2 * context)
    scale = min(size[0] / cut_width, size[1] / cut_height)
    cut_size = (max(round(size[0] / scale), 1), max(round(size[1] / scale), 1))
    left = _inside((x1 + x2 - cut_size[0]) / 2, cut_size[0], width)
    top = _inside((y1 + y2 - cut_size[1]) / 2, cut_size[1], height)
    cut = np.empty((cut_size[1], cut_size[0], 3), dtype=np.uint8)
    cut[:] = GREY
    part = picture[max(top, 0) : top + cut_size[1], max(left, 0) : left + cut_size[0]]
    x, y = max(-left, 0), max(-top, 0)
    cut[y : y + part.shape[0], x : x + part.shape[1]] = part
    # Averaging avoids aliasing when the picture shrinks.
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    drawn: Picture = np.asarray(cv2.resize(cut, size, interpolation=method), dtype=np.uint8)
    if color is not None:
        scale_x, scale_y = size[0] / cut_size[0], size[1] / cut_size[1]
        first = (round((x1 - left) * scale_x), round((y1 - top) * scale_y))
        last = (round((x2 - left) * scale_x) - 1, round((y2 - top) * scale_y) - 1)
        cv2.rectangle(drawn, first, last, color, 2)
    return drawn


def _inside(start: float, length: int, limit: int) -> int:
    """Move `start` so that start..start + length lies in 0..limit; centre it if it cannot."""
    if length >= limit:
        return (limit - length) // 2
    return min(max(round(start), 0), limit - length)


def draw_ranking(
    query: Panel,
    hits: Iterable[Panel],
    *,
    columns: int = 5,
    size: tuple[int, int] = (160, 240),
    title: str = "",
) -> Picture:
    """Draw the query, in a blue border, at the left and its hits in rank order, row by row.

    Args:
        hits: best first; consumed one at a time, so a generator need not hold all pictures.
        columns: hits per row.
        size: (width, height) of each thumbnail.

    Raises:
        DataError: a box is empty or lies outside of its picture.
    """
    cells = [(_cell(query, size, BLUE), query.lines)]
    for panel in hits:
        color = GREY if panel.correct is None else GREEN if panel.correct else RED
        cells.append((_cell(panel, size, color), panel.lines))
    columns = min(max(columns, 1), max(len(cells) - 1, 1))
    rows = max(-(-(len(cells) - 1) // columns), 1)
    cell_width = size[0] + 2 * _BORDER + _GAP
    cell_height = size[1] + 2 * _BORDER + _GAP + _LINE * max(len(lines) for _, lines in cells)
    top = _GAP + (_LINE + _GAP if title else 0)
    width = 2 * _GAP + cell_width * (1 + columns)
    sheet = np.full((top + rows * cell_height, width, 3), 255, dtype=np.uint8)
    if title:
        _write(sheet, title, _GAP, _GAP, width - 2 * _GAP)
    for number, (picture, lines) in enumerate(cells):
        row, column = divmod(number - 1, columns) if number else (0, -1)
        # An extra gap separates the query from its hits.
        x = _GAP + cell_width * (1 + column) + (_GAP if number else 0)
        y = top + row * cell_height
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        for place, line in enumerate(lines):
            _write(sheet, line, x, y + picture.shape[0] + place * _LINE, picture.shape[1])
    return sheet


def write_picture(picture: Picture, path: Path) -> None:
    """Write a picture as ``.jpg`` or ``.png``; the file is complete or absent.

    Raises:
        DataError: the ending is another one, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise DataError(f"{path}: expected a name ending in {', '.join(PICTURE_SUFFIXES)}")
    _, encoded = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(picture[..., ::-1]))
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(encoded.tobytes())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None


def _cell(panel: Panel, size: tuple[int, int], color: tuple[int, int, int]) -> Picture:
    inner = thumbnail(panel.picture, panel.box, size=size, color=color)
    # OpenCV declares any type of numbers; it keeps that of its input.
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        inner, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_CONSTANT, value=color
    )


def _write(sheet: Picture, text: str, x: int, y: int, width: int) -> None:
    """Write one line of text with its top at y, shortened to fit."""
    # OpenCV's built-in fonts have ASCII characters only.
    text = text.encode("ascii", "replace").decode()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    kept = len(text)
    while kept > 1 and cv2.getTextSize(text, font, scale, 1)[0][0] > width:
        kept -= 1
        text = text[:kept] + ".."
    cv2.putText(sheet, text, (x, y + _LINE - 4), font, scale, _BLACK, 1, cv2.LINE_AA)
