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
    capsule,
    cosine,
    ellipse,
    generator,
    paint,
    polygon,
    rectangle,
    shade,
    sine,
)
from personsearch.synthetic.optics import Camera

PLACES = ("cloth", "wall", "table")
"""Kinds of background."""

_INKS: tuple[Colour, ...] = (
    (44, 38, 34),
    (44, 38, 34),
    (44, 38, 34),
    (110, 62, 34),
    (52, 40, 150),
    (62, 100, 40),
)
_MARKS = (
    "star",
    "ring",
    "spiral",
    "leaf",
    "wave",
    "bolt",
    "rose",
    "cross",
    "heart",
    "moon",
    "dots",
)
_SKINS: tuple[Colour, ...] = (
    (180, 204, 238),
    (152, 184, 226),
    (124, 158, 208),
    (96, 128, 180),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """One element about (x, y): kind, half its size, rotation in degrees, ink."""

    kind: str
    x: float
    y: float
    reach: float
    turn: int
    ink: Colour


@dataclass(frozen=True, slots=True)
class Tattoo:
    """Marks within -0.5..0.5; `stature` is the size relative to the average."""

    marks: tuple[Mark, ...]
    stature: float


def random_tattoo(rng: np.random.Generator) -> Tattoo:
    """Return a random tattoo: one large mark and one to four around it."""
    inks = [_INKS[int(k)] for k in rng.integers(len(_INKS), size=2)]
    kinds = [str(kind) for kind in rng.choice(_MARKS, 3, replace=False)]
    marks = [Mark(kinds[0], 0.0, 0.0, 0.30, int(rng.integers(360)), inks[0])]
    count, start = int(rng.integers(1, 5)), int(rng.integers(360))
    reach = int(rng.integers(10, 17)) / 100
    for k in range(count):
        around = start + 360 * k // count
        marks.append(
            Mark(
                kind=kinds[1 + k % 2],
                x=0.36 * cosine(around),
                y=0.36 * sine(around),
                reach=reach,
                turn=around + 90,
                ink=inks[1],
            )
        )
    return Tattoo(tuple(marks), int(rng.integers(85, 120)) / 100)


def make_tattoos(count: int, alike: Sequence[int], rng: np.random.Generator) -> list[Tattoo]:
    """Return `count` tattoos, many in groups with the same inks and outer marks.

    Args:
        count: number of tattoos.
        alike: numbers of lookalikes; each group draws one of them.
        rng: random numbers.
    """
    tattoos: list[Tattoo] = []
    while len(tattoos) < count:
        first = random_tattoo(rng)
        centre, *outer = first.marks
        kinds = [kind for kind in _MARKS if kind != centre.kind]
        others = rng.permutation(len(kinds))[: alike[int(rng.integers(len(alike)))]]
        tattoos.append(first)
        for k in others.tolist():
            marks = (replace(centre, kind=kinds[k]), *outer)
            tattoos.append(Tattoo(marks, first.stature))
    return tattoos[:count]


def tattoo(look: Tattoo, view: int, step: int) -> list[Shape]:
    """Return the tattoo as shapes, its middle at (0, -0.5) and about one unit across.

    Args:
        look: the tattoo.
        view: clockwise rotation in degrees.
        step: unused, tattoos do not walk.
    """
    c, s = cosine(view), sine(view)
    shapes = []
    for mark in look.marks:
        for shape in _mark(mark):
            x, y = shape.points[:, 0], shape.points[:, 1]
            turned = np.stack([x * c - y * s, x * s + y * c - 0.5], axis=1)
            shapes.append(Shape(turned, shape.paint))
    return shapes


def _mark(mark: Mark) -> list[Shape]:
    c, s = cosine(mark.turn), sine(mark.turn)

    def at(u: float, v: float) -> tuple[float, float]:
        u, v = u * mark.reach, v * mark.reach
        return mark.x + u * c - v * s, mark.y + u * s + v * c

    def line(points: Sequence[tuple[float, float]], width: float = 0.09) -> list[Shape]:
        half = width * mark.reach + 0.004
        places = [at(u, v) for u, v in points]
        return [capsule(a, half, b, half, mark.ink) for a, b in itertools.pairwise(places)]

    match mark.kind:
        case "star":
            rim = [at(r * cosine(36 * k), r * sine(36 * k)) for k, r in enumerate((1.0, 0.42) * 5)]
            return [polygon(rim, mark.ink)]
        case "ring":
            return line([(0.85 * cosine(a), 0.85 * sine(a)) for a in range(0, 361, 24)], 0.14)
        case "spiral":
            return line(
                [(a / 800 * cosine(a), a / 800 * sine(a)) for a in range(40, 801, 40)], 0.08
            )
        case "leaf":
            side = [(u / 10, 0.42 * (1 - u * u / 100)) for u in range(-10, 11, 2)]
            rim = side + [(u, -v) for u, v in reversed(side)]
            return [polygon((at(u, v) for u, v in rim), mark.ink), *line([(-1.3, 0), (-0.9, 0)])]
        case "wave":
            shapes = []
            for row in (-0.5, 0.0, 0.5):
                shapes += line([(u / 6, row + 0.22 * sine(60 * u)) for u in range(-6, 7)])
            return shapes
        case "bolt":
            rim = [(-0.2, -1.0), (0.5, -1.0), (0.1, -0.2), (0.6, -0.2), (-0.4, 1.0)]
            rim += [(0.0, 0.1), (-0.5, 0.1)]
            return [polygon((at(u, v) for u, v in rim), mark.ink)]
        case "rose":
            petals = []
            for around in range(0, 360, 72):
                u, v = 0.55 * cosine(around), 0.55 * sine(around)
                petals += line(
                    [(u + 0.4 * cosine(a), v + 0.4 * sine(a)) for a in range(0, 361, 45)], 0.07
                )
            return petals
        case "cross":
            return line([(-1, 0), (1, 0)], 0.16) + line([(0, -1), (0, 1)], 0.16)
        case "heart":
            rim = [(0.0, 1.0), (-0.9, 0.0), (-0.85, -0.5), (-0.45, -0.8), (0.0, -0.35)]
            whole = rim + [(-u, v) for u, v in reversed(rim[1:-1])]
            return [polygon((at(u, v) for u, v in whole), mark.ink)]
        case "moon":
            outer = [(cosine(a), sine(a)) for a in range(50, 311, 20)]
            inner = [(0.42 + 0.78 * cosine(a), 0.78 * sine(a)) for a in range(290, 69, -20)]
            return [polygon((at(u, v) for u, v in outer + inner), mark.ink)]
        case _:
            spots = []
            for around in range(0, 360, 60):
                x, y = at(0.75 * cosine(around), 0.75 * sine(around))
                spots.append(ellipse(x, y, 0.2 * mark.reach, 0.2 * mark.reach, mark.ink))
            return spots


def limb(seed: int) -> list[Shape]:
    """Return skin under a tattoo: a limb through (0, -0.5), at least as wide as the tattoo."""
    rng = generator(seed, 51)
    skin = shade(_SKINS[int(rng.integers(len(_SKINS)))], 92 + int(rng.integers(16)))
    turn, r = int(rng.integers(180)), 0.72 + int(rng.integers(20)) / 100
    u, v = cosine(turn), sine(turn)
    a, b = (-1.1 * u, -0.5 - 1.1 * v), (1.2 * u, -0.5 + 1.2 * v)
    shapes = []
    for k, tone in enumerate((70, 82, 92, 100, 104)):
        near = r * (1 - 0.17 * k)
        lift = 0.05 * k
        shapes.append(
            capsule(
                (a[0] - lift, a[1] - lift),
                near,
                (b[0] - lift, b[1] - lift),
                near * 0.9,
                shade(skin, tone),
            )
        )
    return shapes


def backdrop(camera: Camera) -> Picture:
    """Draw the empty studio: (H, W, 3) uint8 blue, green, red."""
    rng = generator(camera.seed, 52)
    width, height = camera.size
    b, g, r = (int(part) for part in rng.integers(70, 210, 3))
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[...] = (b, g, r)
    shapes: list[Shape] = []
    step = {"cloth": 26, "wall": 64, "table": 44}[camera.place]
    for k in range(0, width + height, step):
        tone = shade((b, g, r), 88 + int(rng.integers(24)))
        if camera.place == "cloth":
            shapes.append(
                polygon(((k, 0), (k + 9, 0), (k + 9 - height, height), (k - height, height)), tone)
            )
        elif camera.place == "wall":
            shapes.append(rectangle(k, 0, k + step - 3, height, tone))
        else:
            shapes.append(rectangle(0, k, width, k + step - 2, tone))
    paint(picture, shapes)
    fine = rng.integers(-6, 7, (height, width, 1), dtype=np.int16)
    grained: Picture = np.clip(picture + fine, 0, 255).astype(np.uint8)
    return grained


def strap(kind: str, seed: int) -> list[Shape]:
    """Return a strap, plaster or sleeve that may cover part of a tattoo, about (0, -0.5)."""
    rng = generator(seed, 53)
    tone: Colour = (
        int(rng.integers(40, 220)),
        int(rng.integers(40, 220)),
        int(rng.integers(40, 220)),
    )
    turn = int(rng.integers(180))
    half = {"strap": 0.07, "plaster": 0.12, "sleeve": 0.22}[kind]
    u, v = 0.6 * cosine(turn), 0.6 * sine(turn)
    return [
        capsule((-u, -0.5 - v), half, (u, -0.5 + v), half, shade(tone, 76)),
        capsule((-u - 0.02, -0.52 - v), half * 0.8, (u - 0.02, -0.52 + v), half * 0.8, tone),
    ]


STRAPS = ("strap", "plaster", "sleeve")
