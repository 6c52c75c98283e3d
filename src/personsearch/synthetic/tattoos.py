"""Draws abstract tattoos on skin: a second object class that only shape distinguishes.

A tattoo consists of a few marks in one or two inks. Between pictures it turns, shrinks, and is on
skin of another tone; lookalikes differ in the arrangement of marks.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from personsearch.synthetic.drawing import (
    Colour,
    Picture,
    Shape,
    arc,
    capsule,
    cosine,
    ellipse,
    paint,
    palette,
    polygon,
    rectangle,
    shade,
    sine,
    trapezoid,
)
from personsearch.synthetic.optics import Camera
from personsearch.synthetic.randomness import Random

_STRIPES = {"cloth": 26, "wall": 64, "table": 44}
PLACES = tuple(_STRIPES)
"""Kinds of background, with stripes of these widths in pixels."""
STRAPS = {"strap": 0.07, "plaster": 0.12, "sleeve": 0.22}
"""What may cover part of a tattoo, with half its width."""

_INKS = palette("22262c 22262c 22262c 223e6e 962834 28643e")
_SKINS = palette("eeccb4 e2b898 d09e7c b48060")

_Path = Sequence[tuple[float, float]]


def _circle(u: float, v: float, r: float, step: int) -> _Path:
    return [(u + r * c, v + r * s) for c, s in arc(0, 361, step)]


_BOW = [(u / 10, 0.42 * (1 - u * u / 100)) for u in range(-10, 11, 2)]
_HALF_HEART = [(0.0, 1.0), (-0.9, 0.0), (-0.85, -0.5), (-0.45, -0.8), (0.0, -0.35)]

_FILLED: dict[str, _Path] = {
    "star": [(r * cosine(36 * k), r * sine(36 * k)) for k, r in enumerate((1.0, 0.42) * 5)],
    "leaf": [*_BOW, *((u, -v) for u, v in reversed(_BOW))],
    "bolt": [(-0.2, -1), (0.5, -1), (0.1, -0.2), (0.6, -0.2), (-0.4, 1), (0, 0.1), (-0.5, 0.1)],
    "heart": [*_HALF_HEART, *((-u, v) for u, v in reversed(_HALF_HEART[1:-1]))],
    "moon": [*arc(50, 311, 20), *((0.42 + 0.78 * c, 0.78 * s) for c, s in arc(290, 69, -20))],
}
"""Outlines of marks, within the unit circle."""
_LINES: dict[str, tuple[float, Sequence[_Path]]] = {
    "ring": (0.14, [_circle(0, 0, 0.85, 24)]),
    "spiral": (0.08, [[(a / 800 * cosine(a), a / 800 * sine(a)) for a in range(40, 801, 40)]]),
    "leaf": (0.09, [[(-1.3, 0), (-0.9, 0)]]),
    "wave": (
        0.09,
        [[(u / 6, v + 0.22 * sine(60 * u)) for u in range(-6, 7)] for v in (-0.5, 0.0, 0.5)],
    ),
    "rose": (0.07, [_circle(0.55 * c, 0.55 * s, 0.4, 45) for c, s in arc(0, 360, 72)]),
    "cross": (0.16, [[(-1, 0), (1, 0)], [(0, -1), (0, 1)]]),
}
"""Half the width and the paths of line marks."""
_SPOTS: dict[str, _Path] = {"dots": [(0.75 * c, 0.75 * s) for c, s in arc(0, 360, 60)]}
MARKS = ("star", "ring", "spiral", "leaf", "wave", "bolt", "rose", "cross", "heart", "moon", "dots")


@dataclass(frozen=True, slots=True)
class Mark:
    """One element about (x, y): kind, half its size, rotation in degrees, ink."""

    kind: str
    x: float
    y: float
    reach: float
    turn: int
    ink: Colour

    def shapes(self) -> list[Shape]:
        """Return the mark as shapes."""
        kind, reach, ink = self.kind, self.reach, self.ink
        c, s = cosine(self.turn), sine(self.turn)

        def at(path: _Path) -> list[tuple[float, float]]:
            scaled = ((u * reach, v * reach) for u, v in path)
            return [(self.x + u * c - v * s, self.y + u * s + v * c) for u, v in scaled]

        shapes = [polygon(at(_FILLED[kind]), ink)] if kind in _FILLED else []
        width, paths = _LINES.get(kind, (0.0, []))
        half = width * reach + 0.004
        for path in paths:
            shapes += [capsule(a, half, b, half, ink) for a, b in itertools.pairwise(at(path))]
        spots = at(_SPOTS.get(kind, []))
        return shapes + [ellipse(x, y, 0.2 * reach, 0.2 * reach, ink) for x, y in spots]


@dataclass(frozen=True, slots=True)
class Tattoo:
    """Marks within -0.5..0.5; `stature` is the size relative to the average."""

    marks: tuple[Mark, ...]
    stature: float


def random_tattoo(rng: Random) -> Tattoo:
    """Return a random tattoo: one large mark and one to four around it."""
    first, second = rng.pick(_INKS), rng.pick(_INKS)
    kinds = rng.choice(MARKS, 3, replace=False).tolist()
    marks = [Mark(kinds[0], 0.0, 0.0, 0.30, rng.randrange(0, 360), first)]
    count, start, reach = rng.randrange(1, 5), rng.randrange(0, 360), rng.hundredths(10, 17)
    for k in range(count):
        around = start + 360 * k // count
        x, y = 0.36 * cosine(around), 0.36 * sine(around)
        marks.append(Mark(kinds[1 + k % 2], x, y, reach, around + 90, second))
    return Tattoo(tuple(marks), rng.hundredths(85, 120))


def tattoo_group(alike: Sequence[int], rng: Random) -> list[Tattoo]:
    """Return a tattoo and a number, from `alike`, of others with its inks and outer marks."""
    first = random_tattoo(rng)
    centre, *outer = first.marks
    kinds = rng.shuffled([kind for kind in MARKS if kind != centre.kind])[: rng.pick(alike)]
    others = [(replace(centre, kind=kind), *outer) for kind in kinds]
    return [first, *(Tattoo(marks, first.stature) for marks in others)]


def tattoo(look: Tattoo, view: int, step: int) -> list[Shape]:
    """Return the tattoo as shapes, its middle at (0, -0.5) and about one unit across.

    It is turned clockwise by `view` degrees; `step` is not used, as a tattoo does not walk.
    """
    c, s = cosine(view), sine(view)
    shapes = []
    for shape in (shape for mark in look.marks for shape in mark.shapes()):
        x, y = shape.points.T
        turned = np.stack([x * c - y * s, x * s + y * c - 0.5], axis=1)
        shapes.append(Shape(turned, shape.paint))
    return shapes


def limb(seed: int) -> list[Shape]:
    """Return skin under a tattoo: a limb through (0, -0.5), at least as wide as the tattoo."""
    rng = Random(seed, 51)
    skin = rng.tint(rng.pick(_SKINS), 92, 108)
    turn, r = rng.randrange(0, 180), 0.72 + rng.hundredths(0, 20)
    u, v = cosine(turn), sine(turn)
    (x1, y1), (x2, y2) = (-1.1 * u, -0.5 - 1.1 * v), (1.2 * u, -0.5 + 1.2 * v)
    shapes = []
    for k, tone in enumerate((70, 82, 92, 100, 104)):
        near, lift = r * (1 - 0.17 * k), 0.05 * k
        start, end = (x1 - lift, y1 - lift), (x2 - lift, y2 - lift)
        shapes.append(capsule(start, near, end, near * 0.9, shade(skin, tone)))
    return shapes


def backdrop(camera: Camera) -> Picture:
    """Draw the empty studio: (H, W, 3) uint8 blue, green, red."""
    rng = Random(camera.seed, 52)
    width, height = camera.size
    colour = rng.colour(70, 210)
    picture = np.full((height, width, 3), colour, dtype=np.uint8)
    step = _STRIPES[camera.place]
    for k in range(0, width + height, step):
        tone = rng.tint(colour, 88, 112)
        stripes = {
            "cloth": trapezoid((k, k + 9, 0), (k - height, k + 9 - height, height), tone),
            "wall": rectangle(k, 0, k + step - 3, height, tone),
            "table": rectangle(0, k, width, k + step - 2, tone),
        }
        paint(picture, [stripes[camera.place]])
    fine = rng.integers(-6, 7, (height, width, 1), dtype=np.int16)
    grained: Picture = np.clip(picture + fine, 0, 255).astype(np.uint8)
    return grained


def strap(kind: str, seed: int) -> list[Shape]:
    """Return a strap, plaster or sleeve that may cover part of a tattoo, about (0, -0.5)."""
    rng = Random(seed, 53)
    tone, turn, half = rng.colour(40, 220), rng.randrange(0, 180), STRAPS[kind]
    u, v = 0.6 * cosine(turn), 0.6 * sine(turn)
    return [
        capsule((-u, -0.5 - v), half, (u, -0.5 + v), half, shade(tone, 76)),
        capsule((-u - 0.02, -0.52 - v), half * 0.8, (u - 0.02, -0.52 + v), half * 0.8, tone),
    ]
