"""Draws filled outlines with antialiasing, the same bytes on every machine.

Coordinates are sums and products of doubles, which IEEE 754 fixes, and become sixteenths of a pixel
before OpenCV's integer rasteriser sees them. Angles are whole degrees looked up in a table. Colours
are blue, green, red in 0..255. A sprite holds colour already multiplied by its coverage, so that
overlapping outlines blend without seams.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

_SHIFT = 4
_ONE = 1 << _SHIFT
_SINE = tuple(round(math.sin(math.radians(degree)) * 65536) / 65536 for degree in range(360))

Points = NDArray[np.float64]
Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
Texture = Callable[[Points, Points], Picture]
"""Colours (H, W, 3) at a shape's own coordinates, columns (W,) and rows (H,)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled outline: points (N, 2) in units of the drawing, y down."""

    points: Points
    paint: Colour | Texture


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawing that can be laid over a picture."""

    pixels: Picture  # (H, W, 4): blue, green, red multiplied by coverage, and coverage
    left: int  # column of the picture where the sprite begins; may be negative
    top: int  # row of the picture where the sprite begins; may be negative


def sine(degrees: int) -> float:
    """Return the sine of whole degrees."""
    return _SINE[degrees % 360]


def cosine(degrees: int) -> float:
    """Return the cosine of whole degrees."""
    return _SINE[(degrees + 90) % 360]


def arc(start: int, stop: int, step: int) -> list[tuple[float, float]]:
    """Return points of the unit circle at each of ``range(start, stop, step)`` degrees."""
    return [(cosine(degrees), sine(degrees)) for degrees in range(start, stop, step)]


def shade(colour: Colour, percent: int) -> Colour:
    """Return the colour darkened (below 100) or lightened (above)."""
    b, g, r = (min(255, max(0, part * percent // 100)) for part in colour)
    return b, g, r


def palette(codes: str) -> tuple[Colour, ...]:
    """Return colours from hexadecimal codes of red, green and blue."""
    return tuple((b, g, r) for r, g, b in map(bytes.fromhex, codes.split()))


def polygon(points: Iterable[tuple[float, float]], paint: Colour | Texture) -> Shape:
    """Return a shape with these corners."""
    return Shape(np.array(list(points), dtype=np.float64), paint)


def trapezoid(
    top: tuple[float, float, float], bottom: tuple[float, float, float], paint: Colour
) -> Shape:
    """Return a shape between two level edges, each given as x, x and y."""
    (a, b, y1), (c, d, y2) = top, bottom
    return polygon(((a, y1), (b, y1), (d, y2), (c, y2)), paint)


def rectangle(x1: float, y1: float, x2: float, y2: float, paint: Colour | Texture) -> Shape:
    """Return an upright rectangle."""
    return polygon(((x1, y1), (x2, y1), (x2, y2), (x1, y2)), paint)


_CIRCLE = np.array(arc(0, 360, 18))
_HALF_CIRCLE = np.array(arc(-90, 91, 18))


def ellipse(x: float, y: float, rx: float, ry: float, paint: Colour) -> Shape:
    """Return an upright ellipse about (x, y)."""
    return Shape(_CIRCLE * (rx, ry) + (x, y), paint)


def capsule(
    start: tuple[float, float], r1: float, end: tuple[float, float], r2: float, paint: Colour
) -> Shape:
    """Return a tapered limb with round ends: radius `r1` at `start`, `r2` at `end`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.sqrt(dx * dx + dy * dy)
    ux, uy = (dx / length, dy / length) if length > 1e-6 else (0.0, 1.0)
    c, s = _HALF_CIRCLE.T
    cap = np.stack([c * ux - s * uy, c * uy + s * ux], axis=1)
    return Shape(np.concatenate([cap * r2 + end, -cap * r1 + start]), paint)


def extent(shapes: Sequence[Shape]) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 around all shapes, in their units."""
    points = np.concatenate([shape.points for shape in shapes])
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x1, y1, x2, y2


def draw(shapes: Sequence[Shape], scale: tuple[float, float], at: tuple[float, float]) -> Sprite:
    """Draw shapes as a sprite, the first at the bottom.

    Args:
        shapes: the shapes.
        scale: pixels per unit along x and y.
        at: position in the picture of the shapes' origin, in pixels.
    """
    x1, y1, x2, y2 = extent(shapes)
    left = math.floor(x1 * scale[0] + at[0]) - 1
    top = math.floor(y1 * scale[1] + at[1]) - 1
    width = math.ceil(x2 * scale[0] + at[0]) + 2 - left
    height = math.ceil(y2 * scale[1] + at[1]) + 2 - top
    pixels = np.zeros((height, width, 4), dtype=np.uint8)
    origin = (at[0] - left, at[1] - top)
    # A sixteenth-pixel coordinate of 8 is a pixel's centre for us, 0 for OpenCV.
    offset = np.array(origin) * _ONE - _ONE / 2
    for shape in shapes:
        corners = np.rint(shape.points * (np.array(scale) * _ONE) + offset).astype(np.int32)
        if isinstance(shape.paint, tuple):
            cv2.fillPoly(pixels, [corners], (*shape.paint, 255), cv2.LINE_AA, _SHIFT)
            continue
        c1, r1 = np.maximum(corners.min(axis=0) // _ONE - 1, 0).tolist()
        c2, r2 = np.minimum(corners.max(axis=0) // _ONE + 3, (width, height)).tolist()
        cover = np.zeros((r2 - r1, c2 - c1), dtype=np.uint8)
        corners -= np.array([c1, r1], np.int32) * _ONE
        cv2.fillPoly(cover, [corners], 255, cv2.LINE_AA, _SHIFT)
        colours = np.full((r2 - r1, c2 - c1, 4), 255, dtype=np.uint8)
        colours[..., :3] = shape.paint(
            (np.arange(c1, c2) + 0.5 - origin[0]) / scale[0],
            (np.arange(r1, r2) + 0.5 - origin[1]) / scale[1],
        )
        _over(pixels[r1:r2, c1:c2], times(colours, cover[..., None]), cover)
    return Sprite(pixels, left, top)


def times(pixels: Picture, factor: NDArray[np.uint8]) -> Picture:
    """Return ``pixels * factor / 255`` in whole numbers, at most one too small."""
    product = np.multiply(pixels, factor, dtype=np.uint16)
    scaled: Picture = ((product + (product >> 8) + 1) >> 8).astype(np.uint8)
    return scaled


def fade(sprite: Sprite, opacity: int) -> Sprite:
    """Return the sprite with its coverage multiplied by `opacity` 255ths."""
    return replace(sprite, pixels=times(sprite.pixels, np.array(opacity, dtype=np.uint8)))


def _over(under: Picture, upper: Picture, coverage: Picture) -> None:
    # cv2.add saturates: rounding can give 256.
    under[...] = cv2.add(times(under, 255 - coverage[..., None]), upper)


def overlay(picture: Picture, sprite: Sprite) -> tuple[slice, slice, Picture] | None:
    """Draw the sprite over the picture (H, W, 3) in place.

    Returns:
        The rows and columns of the picture that changed, and the coverage there; None if the
        sprite is outside.
    """
    height, width = picture.shape[:2]
    rows, columns = sprite.pixels.shape[:2]
    y1, y2 = max(0, sprite.top), min(height, sprite.top + rows)
    x1, x2 = max(0, sprite.left), min(width, sprite.left + columns)
    if y1 >= y2 or x1 >= x2:
        return None
    part = sprite.pixels[y1 - sprite.top : y2 - sprite.top, x1 - sprite.left : x2 - sprite.left]
    coverage = part[..., 3]
    _over(picture[y1:y2, x1:x2], part[..., :3], coverage)
    return slice(y1, y2), slice(x1, x2), coverage


def paint(picture: Picture, shapes: Iterable[Shape]) -> None:
    """Draw plain shapes directly on a picture (H, W, 3), in its pixels, in place."""
    for shape in shapes:
        corners = np.rint(shape.points * _ONE - _ONE / 2).astype(np.int32)
        if isinstance(shape.paint, tuple):
            cv2.fillPoly(picture, [corners], shape.paint, cv2.LINE_AA, _SHIFT)
