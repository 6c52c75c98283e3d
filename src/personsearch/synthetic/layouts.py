"""Arranges people in a scene, and the objects in front of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from personsearch.synthetic.optics import Camera
from personsearch.synthetic.randomness import Random
from personsearch.synthetic.streets import FURNITURE
from personsearch.synthetic.tattoos import STRAPS

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""

MAX_HIDDEN = 0.6
"""Largest share of a person that people in front may hide, roughly."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One person or tattoo in one scene."""

    look: Any
    id: int  # identity, or -1
    x: float  # column of the middle, pixels
    foot: float  # row of the feet, pixels
    unit: float  # height in pixels
    view: int  # degrees of rotation
    step: int  # degrees of the walking cycle
    box: Box | None = None  # the annotated box if given and not measured
    fill: Box | None = None  # what the drawing fills exactly; larger than a `box` cut by the border


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
    """Everything needed to draw one scene."""

    name: str  # of the scene and its file
    object_class: str
    split: str
    seed: tuple[int, ...]  # of light and noise
    camera: Camera
    time: float | None  # seconds
    people: tuple[Placement, ...]
    props: tuple[Prop, ...]


class Deck:
    """Deals identities equally often, in random order."""

    def __init__(self, ids: Sequence[int], rng: Random) -> None:
        self._ids = ids
        self._rng = rng
        self._left: list[int] = []

    def deal(self, count: int) -> list[int]:
        """Return `count` different identities, or all if there are fewer."""
        dealt: list[int] = []
        again: list[int] = []
        while len(dealt) < min(count, len(self._ids)):
            if not self._left:
                self._left = self._rng.shuffled(self._ids)
            card = self._left.pop()
            (again if card in dealt else dealt).append(card)
        self._left += again
        return dealt


def stand(camera: Camera, looks: Sequence[tuple[int, Any]], rng: Random) -> list[Placement]:
    """Place people on a camera's ground, some in company, none behind too many others.

    `looks` holds each person's identity and look; a look has a `stature`.
    """
    width, height = camera.size
    far, near = camera.far * height, camera.near * height
    placed: list[Placement] = []
    for identity, look in looks:
        for _ in range(24):
            if placed and rng.happens(22):
                other = placed[-1]
                x = other.x + rng.pick((1, -1)) * other.unit * rng.randrange(34, 56) / 100
                foot = other.foot + rng.randrange(-6, 7)
                view = other.view + rng.randrange(-20, 21)
            else:
                x = width * rng.randrange(-20, 1021) / 1000
                foot = far + (near - far) * rng.randrange(0, 1001) / 1000
                along = rng.happens(55)
                view = rng.pick((0, 180)) + camera.seed % 360 + rng.randrange(-35, 36)
                view = view if along else rng.randrange(0, 360)
            unit = camera.unit(foot) * look.stature
            step = rng.randrange(0, 360)
            candidate = Placement(look, identity, x, foot, unit, view % 360, step)
            if _fits(candidate, placed, width):
                placed.append(candidate)
                break
    return placed


def _rough(person: Placement) -> Box:
    half = person.unit * 0.15
    return person.x - half, person.foot - person.unit, person.x + half, person.foot


def _covered(under: Placement, people: Sequence[Placement]) -> float:
    """Return the rough share of a person that people nearer to the camera hide."""
    x1, y1, x2, y2 = _rough(under)
    total = 0.0
    for person in people:
        if person.foot > under.foot:
            a1, b1, a2, b2 = _rough(person)
            total += max(0.0, min(x2, a2) - max(x1, a1)) * max(0.0, min(y2, b2) - max(y1, b1))
    return total / ((x2 - x1) * (y2 - y1))


def _fits(candidate: Placement, placed: Sequence[Placement], width: int) -> bool:
    x1, _, x2, _ = _rough(candidate)
    if min(x2, width) - max(x1, 0) < 0.5 * (x2 - x1):
        return False
    everyone = [*placed, candidate]
    return all(_covered(person, everyone) <= MAX_HIDDEN for person in everyone)


def furnish(camera: Camera, placed: Sequence[Placement], rng: Random) -> list[Prop]:
    """Return objects in front of a camera: some permanent, some only in this scene."""
    width, height = camera.size
    far, near = camera.far * height, min(1.04, camera.near) * height
    props = []
    for source in [Random(camera.seed, 31)] * 3 + [rng] * rng.randrange(0, 3):
        kind = source.pick(FURNITURE[camera.place])
        # Wide things in front would hide half the picture.
        reach = {"car": 260, "planter": 500, "bench": 500}.get(kind, 800)
        foot = far + (near - far) * source.randrange(60, reach) / 1000
        seed = source.randrange(0, 1 << 31)
        x = width * source.randrange(-20, 1021) / 1000
        props.append(Prop(kind, seed, x, foot, camera.unit(foot)))
    return props


_COLUMNS, _ROWS = 3, 2


def spread(camera: Camera, looks: Sequence[tuple[int, Any]], rng: Random) -> list[Placement]:
    """Place up to six flat objects in separate cells, randomly turned and scaled."""
    width, height = camera.size
    cells = rng.shuffled(range(_COLUMNS * _ROWS))
    cell_width, cell_height = width / _COLUMNS, height / _ROWS
    placed = []
    for cell, (identity, look) in zip(cells, looks, strict=False):
        unit = cell_height * rng.randrange(34, 66) / 100 * look.stature
        x = cell_width * (cell % _COLUMNS + rng.hundredths(38, 63))
        y = cell_height * (cell // _COLUMNS + rng.hundredths(40, 61))
        view = (camera.seed + rng.randrange(-40, 41)) % 360
        placed.append(Placement(look, identity, x, y + unit / 2, unit, view, step=0))
    return placed


def cover(camera: Camera, placed: Sequence[Placement], rng: Random) -> list[Prop]:
    """Return straps that cover some of the placed objects."""
    props = []
    for thing in placed:
        if rng.happens(30):
            shift = rng.hundredths(-30, 31) * thing.unit
            kind, seed = rng.pick(list(STRAPS)), rng.randrange(0, 1 << 31)
            props.append(Prop(kind, seed, thing.x + shift, thing.foot + shift + 1, thing.unit))
    return props
