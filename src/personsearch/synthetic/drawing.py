"""Draws filled outlines with antialiasing, the same bytes on every machine.

Coordinates are sums and products of doubles, which IEEE 754 fixes, and become sixteenths of a pixel
before OpenCV's integer rasteriser sees them. Angles are whole degrees looked up in a table. Colours
are blue, green, red in 0..255. A sprite holds colour already multiplied by its coverage, so that
overlapping outlines blend without seams.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

_SHIFT = 4
_ONE = 1 << _SHIFT
_SINE = tuple(round(math.sin(math.radians(degree)) * 65536) / 65536 for degree in range(360))

Points = NDArray[np.float64]
Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]


class Texture(Protocol):
    """Colour that varies over a shape."""

    def __call__(self, columns: Points, rows: Points) -> Picture:
        """Return (H, W, 3) uint8 colours at the shape's coordinates, columns (W,) and rows (H,)."""
        ...


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled outline: points (N, 2) in units of the drawing, y down."""

    points: Points
    paint: Colour | Texture


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawing that can be laid over a picture.

    Attributes:
        pixels: (H, W, 4) uint8, blue, green, red multiplied by coverage, and coverage.
        left: column of the picture where the sprite begins; may be negative.
        top: row of the picture where the sprite begins; may be negative.
    """

    pixels: Picture
    left: int
    top: int


def generator(*seeds: int) -> np.random.Generator:
    """Return the random numbers of these seeds, the same on every machine."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seeds)))


def sine(degrees: int) -> float:
    """Return the sine of whole degrees."""
    return _SINE[degrees % 360]


def cosine(degrees: int) -> float:
    """Return the cosine of whole degrees."""
    return _SINE[(degrees + 90) % 360]


def shade(colour: Colour, percent: int) -> Colour:
    """Return the colour darkened (below 100) or lightened (above)."""
    b, g, r = (min(255, max(0, part * percent // 100)) for part in colour)
    return b, g, r


def polygon(points: Iterable[tuple[float, float]], paint: Colour | Texture) -> Shape:
    """Return a shape with these corners."""
    return Shape(np.array(list(points), dtype=np.float64), paint)


def rectangle(x1: float, y1: float, x2: float, y2: float, paint: Colour | Texture) -> Shape:
    """Return an upright rectangle."""
    return polygon(((x1, y1), (x2, y1), (x2, y2), (x1, y2)), paint)


_CIRCLE = tuple((cosine(a), sine(a)) for a in range(0, 360, 18))


def ellipse(
    x: float, y: float, rx: float, ry: float, paint: Colour | Texture, tilt: int = 0
) -> Shape:
    """Return an ellipse about (x, y), turned clockwise by `tilt` degrees."""
    c, s = cosine(tilt), sine(tilt)
    return polygon(
        ((x + rx * u * c - ry * v * s, y + rx * u * s + ry * v * c) for u, v in _CIRCLE),
        paint,
    )


_HALF_CIRCLE = tuple((cosine(a), sine(a)) for a in range(-90, 91, 18))


def capsule(
    start: tuple[float, float], r1: float, end: tuple[float, float], r2: float, paint: Colour
) -> Shape:
    """Return a tapered limb with round ends: radius `r1` at `start`, `r2` at `end`."""
    (x1, y1), (x2, y2) = start, end
    dx, dy = x2 - x1, y2 - y1
    length = math.sqrt(dx * dx + dy * dy)
    ux, uy = (dx / length, dy / length) if length > 1e-6 else (0.0, 1.0)
    far = [(x2 + r2 * (c * ux - s * uy), y2 + r2 * (c * uy + s * ux)) for c, s in _HALF_CIRCLE]
    near = [(x1 - r1 * (c * ux - s * uy), y1 - r1 * (c * uy + s * ux)) for c, s in _HALF_CIRCLE]
    return polygon(far + near, paint)


def extent(shapes: Sequence[Shape]) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 around all shapes, in their units."""
    low = np.min([shape.points.min(axis=0) for shape in shapes], axis=0)
    high = np.max([shape.points.max(axis=0) for shape in shapes], axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


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
    factor = np.array(scale) * _ONE
    # The centre of a pixel is at 8 sixteenths here, at 0 in OpenCV.
    offset = np.array([(at[0] - left) * _ONE - _ONE / 2, (at[1] - top) * _ONE - _ONE / 2])
    for shape in shapes:
        corners = np.rint(shape.points * factor + offset).astype(np.int32)
        if isinstance(shape.paint, tuple):
            cv2.fillPoly(pixels, [corners], (*shape.paint, 255), cv2.LINE_AA, _SHIFT)
        else:
            _fill_textured(pixels, corners, shape.paint, scale, (at[0] - left, at[1] - top))
    return Sprite(pixels, left, top)


def _fill_textured(
    pixels: Picture,
    corners: NDArray[np.int32],
    texture: Texture,
    scale: tuple[float, float],
    origin: tuple[float, float],
) -> None:
    height, width = pixels.shape[:2]
    c1, r1 = (max(0, int(v) // _ONE - 1) for v in corners.min(axis=0))
    c2 = min(width, int(corners[:, 0].max()) // _ONE + 3)
    r2 = min(height, int(corners[:, 1].max()) // _ONE + 3)
    if c2 <= c1 or r2 <= r1:
        return
    cover = np.zeros((r2 - r1, c2 - c1), dtype=np.uint8)
    cv2.fillPoly(cover, [corners - np.array([c1, r1], np.int32) * _ONE], 255, cv2.LINE_AA, _SHIFT)
    colours = np.empty((r2 - r1, c2 - c1, 4), dtype=np.uint8)
    colours[..., :3] = texture(
        (np.arange(c1, c2) + 0.5 - origin[0]) / scale[0],
        (np.arange(r1, r2) + 0.5 - origin[1]) / scale[1],
    )
    colours[..., 3] = 255
    _over(pixels[r1:r2, c1:c2], times(colours, cover[..., None]), cover)


def times(pixels: Picture, factor: NDArray[np.uint8]) -> Picture:
    """Return ``pixels * factor / 255`` in whole numbers, at most one too small."""
    product = np.multiply(pixels, factor, dtype=np.uint16)
    scaled: Picture = ((product + (product >> 8) + 1) >> 8).astype(np.uint8)
    return scaled


def fade(sprite: Sprite, opacity: int) -> Sprite:
    """Return the sprite with its coverage multiplied by `opacity` 255ths."""
    if opacity == 255:
        return sprite
    faded = times(sprite.pixels, np.array(opacity, dtype=np.uint8))
    return Sprite(faded, sprite.left, sprite.top)


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
