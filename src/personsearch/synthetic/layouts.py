"""Arranges people in a scene, and the objects in front of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.synthetic.drawing import generator
from personsearch.synthetic.optics import Camera
from personsearch.synthetic.streets import FURNITURE
from personsearch.synthetic.tattoos import STRAPS

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""

MAX_HIDDEN = 0.6
"""Largest share of a person that people in front may hide, roughly."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One person (or tattoo) in one scene.

    Attributes:
        look: appearance.
        id: identity, or -1.
        x: column of the middle, pixels.
        foot: row of the feet, pixels.
        unit: height in pixels.
        view: degrees of rotation.
        step: degrees of the walking cycle.
        box: the annotated x1, y1, x2, y2 if given and not measured.
        fill: the box that the drawing fills exactly; larger than `box` if the picture's border cuts
            it.
    """

    look: Any
    id: int
    x: float
    foot: float
    unit: float
    view: int
    step: int
    box: Box | None = None
    fill: Box | None = None


@dataclass(frozen=True, slots=True)
class Prop:
    """One object in a scene: kind and seed, position, and pixels per height of a person."""

    kind: str
    seed: int
    x: float
    foot: float
    unit: float


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """Everything needed to draw one scene.

    Attributes:
        name: name of the scene and its file.
        object_class: class of what the scene shows.
        split: ``train`` or ``test``.
        seed: seeds of light and noise.
        camera: the camera.
        time: seconds.
        people: people in any order.
        props: objects in any order.
    """

    name: str
    object_class: str
    split: str
    seed: tuple[int, ...]
    camera: Camera
    time: float | None
    people: tuple[Placement, ...]
    props: tuple[Prop, ...]


class Deck:
    """Deals identities equally often, in random order."""

    def __init__(self, ids: Sequence[int], rng: np.random.Generator) -> None:
        self._ids = list(ids)
        self._rng = rng
        self._left: list[int] = []

    def deal(self, count: int) -> list[int]:
        """Return `count` different identities, or all if there are fewer."""
        dealt: list[int] = []
        again: list[int] = []
        while len(dealt) < min(count, len(self._ids)):
            if not self._left:
                self._left = [self._ids[int(k)] for k in self._rng.permutation(len(self._ids))]
            card = self._left.pop()
            (again if card in dealt else dealt).append(card)
        self._left += again
        return dealt


def stand(
    camera: Camera, looks: Sequence[tuple[int, Any]], rng: np.random.Generator
) -> list[Placement]:
    """Place people on a camera's ground, some in company, none behind too many others.

    Args:
        camera: the camera.
        looks: identity and look of each person; a look has a `stature`.
        rng: random numbers.
    """
    width, height = camera.size
    placed: list[Placement] = []
    axis = camera.seed % 360
    for identity, look in looks:
        for _ in range(24):
            company = bool(placed) and int(rng.integers(100)) < 22
            if company:
                other = placed[-1]
                side = -1 if int(rng.integers(2)) else 1
                x = other.x + side * other.unit * (34 + int(rng.integers(22))) / 100
                foot = other.foot + int(rng.integers(-6, 7))
                view = other.view + int(rng.integers(-20, 21))
            else:
                x = width * int(rng.integers(-20, 1021)) / 1000
                low, high = camera.far * height, camera.near * height
                foot = low + (high - low) * int(rng.integers(1001)) / 1000
                main = int(rng.integers(100)) < 55
                turn = (0, 180)[int(rng.integers(2))] + axis + int(rng.integers(-35, 36))
                view = turn if main else int(rng.integers(360))
            candidate = Placement(
                look=look,
                id=identity,
                x=x,
                foot=foot,
                unit=camera.unit(foot) * look.stature,
                view=view % 360,
                step=int(rng.integers(360)),
            )
            if _fits(candidate, placed, (width, height)):
                placed.append(candidate)
                break
    return placed


def _rough(person: Placement) -> tuple[float, float, float, float]:
    half = person.unit * 0.15
    return person.x - half, person.foot - person.unit, person.x + half, person.foot


def _covered(under: Placement, over: Sequence[Placement]) -> float:
    x1, y1, x2, y2 = _rough(under)
    total = 0.0
    for person in over:
        a1, b1, a2, b2 = _rough(person)
        total += max(0.0, min(x2, a2) - max(x1, a1)) * max(0.0, min(y2, b2) - max(y1, b1))
    return total / ((x2 - x1) * (y2 - y1))


def _fits(candidate: Placement, placed: Sequence[Placement], size: tuple[int, int]) -> bool:
    x1, _, x2, _ = _rough(candidate)
    if min(x2, size[0]) - max(x1, 0) < 0.5 * (x2 - x1):
        return False
    everyone = [*placed, candidate]
    return all(
        _covered(person, [other for other in everyone if other.foot > person.foot]) <= MAX_HIDDEN
        for person in everyone
    )


def furnish(camera: Camera, placed: Sequence[Placement], rng: np.random.Generator) -> list[Prop]:
    """Return objects in front of a camera: some permanent, some only in this scene."""
    fixed = generator(camera.seed, 31)
    return _scatter(camera, 3, fixed) + _scatter(camera, int(rng.integers(3)), rng)


def _scatter(camera: Camera, count: int, rng: np.random.Generator) -> list[Prop]:
    width, height = camera.size
    kinds = FURNITURE[camera.place]
    props = []
    for _ in range(count):
        low, high = camera.far * height, min(1.04, camera.near) * height
        kind = kinds[int(rng.integers(len(kinds)))]
        # Wide objects in front would hide half the picture.
        reach = {"car": 260, "planter": 500, "bench": 500}.get(kind, 800)
        foot = low + (high - low) * int(rng.integers(60, reach)) / 1000
        props.append(
            Prop(
                kind=kind,
                seed=int(rng.integers(1 << 31)),
                x=width * int(rng.integers(-20, 1021)) / 1000,
                foot=foot,
                unit=camera.unit(foot),
            )
        )
    return props


_COLUMNS, _ROWS = 3, 2


def spread(
    camera: Camera, looks: Sequence[tuple[int, Any]], rng: np.random.Generator
) -> list[Placement]:
    """Place up to six flat objects in separate cells, randomly turned and scaled."""
    width, height = camera.size
    cells = rng.permutation(_COLUMNS * _ROWS)
    cell_width, cell_height = width / _COLUMNS, height / _ROWS
    placed = []
    for cell, (identity, look) in zip(cells.tolist(), looks, strict=False):
        unit = cell_height * int(rng.integers(34, 66)) / 100 * look.stature
        x = cell_width * (cell % _COLUMNS + int(rng.integers(38, 63)) / 100)
        y = cell_height * (cell // _COLUMNS + int(rng.integers(40, 61)) / 100)
        placed.append(
            Placement(
                look=look,
                id=identity,
                x=x,
                foot=y + unit / 2,
                unit=unit,
                view=(camera.seed + int(rng.integers(-40, 41))) % 360,
                step=0,
            )
        )
    return placed


def cover(camera: Camera, placed: Sequence[Placement], rng: np.random.Generator) -> list[Prop]:
    """Return straps that cover some of the placed objects."""
    props = []
    for thing in placed:
        if int(rng.integers(100)) < 30:
            shift = int(rng.integers(-30, 31)) / 100 * thing.unit
            props.append(
                Prop(
                    kind=STRAPS[int(rng.integers(len(STRAPS)))],
                    seed=int(rng.integers(1 << 31)),
                    x=thing.x + shift,
                    foot=thing.foot + shift + 1,
                    unit=thing.unit,
                )
            )
    return props
