"""The looks of drawn people, and of others who resemble them on purpose."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from personsearch.synthetic.drawing import Colour, Picture, Points, shade

COLOURS: dict[str, Colour] = {
    "black": (38, 34, 34),
    "charcoal": (82, 76, 72),
    "grey": (152, 150, 146),
    "white": (232, 234, 232),
    "navy": (98, 54, 34),
    "blue": (188, 108, 44),
    "sky": (222, 184, 132),
    "teal": (128, 128, 36),
    "green": (72, 122, 48),
    "olive": (62, 108, 104),
    "yellow": (72, 202, 236),
    "orange": (44, 126, 230),
    "red": (48, 42, 186),
    "burgundy": (52, 32, 106),
    "pink": (172, 140, 232),
    "purple": (138, 62, 108),
    "brown": (44, 74, 112),
    "beige": (150, 186, 210),
}
"""Colours of clothes, bags and hats, as blue, green, red."""

_SKINS: tuple[Colour, ...] = (
    (176, 204, 240),
    (150, 184, 228),
    (120, 156, 208),
    (92, 126, 178),
    (66, 92, 138),
    (46, 64, 98),
)
_HAIRS: tuple[Colour, ...] = (
    (28, 26, 28),
    (34, 46, 66),
    (44, 68, 104),
    (92, 146, 188),
    (150, 186, 214),
    (46, 82, 160),
    (150, 150, 150),
    (206, 206, 206),
)
_SHOES = ("black", "white", "brown", "grey", "red", "blue", "navy", "beige", "yellow")
_LOWERS = ("black", "navy", "blue", "charcoal", "grey", "beige", "brown", "olive", "white", "red")

BROAD = ("hoops", "stripes", "checks", "halves", "two_tone", "diamonds", "diagonals")
"""Patterns with about half of the second colour."""
SPARSE = ("dots", "band", "yoke", "panels", "sash", "plaid", "badge", "open", "bands")
"""Patterns with little of the second colour."""
TOPS = ("tee", "long", "jacket", "coat", "vest")
BOTTOMS = ("trousers", "shorts", "skirt", "long_skirt")
HAIR_STYLES = ("short", "long", "bun", "bald", "ponytail", "curly", "bob")
BAGS = ("none", "none", "backpack", "backpack", "handbag", "satchel")
HATS = ("none", "none", "none", "none", "cap", "beanie", "brim")


@dataclass(frozen=True, slots=True)
class Cloth:
    """A pattern in two colours, repeated `count` times."""

    pattern: str
    first: Colour
    second: Colour
    count: int = 4


@dataclass(frozen=True, slots=True)
class Look:
    """Appearance of a person, the same in all pictures.

    Lengths are relative to the average; `fit` ranges from 0 (slim clothes) to 2 (wide).
    """

    stature: float
    build: float
    waist: float
    skin: Colour
    hair: Colour
    hair_style: str
    top: str
    upper: Cloth
    bottom: str
    lower: Cloth
    fit: int
    shoes: Colour
    sleeves: Colour
    bag: str
    bag_colour: Colour
    hat: str
    hat_colour: Colour
    scarf: Colour | None
    glasses: bool
    beard: bool


_T = TypeVar("_T")


def _pick(rng: np.random.Generator, values: Sequence[_T]) -> _T:
    return values[int(rng.integers(len(values)))]


def _chance(rng: np.random.Generator, percent: int) -> bool:
    return int(rng.integers(100)) < percent


def _tint(rng: np.random.Generator, name: str) -> Colour:
    """Return a named colour, a little lighter or darker."""
    return shade(COLOURS[name], 88 + int(rng.integers(25)))


def _factor(rng: np.random.Generator, low: int, high: int) -> float:
    return int(rng.integers(low, high + 1)) / 100


def random_look(rng: np.random.Generator) -> Look:
    """Return a random look."""
    skirts = _chance(rng, 35)
    first, second = (str(name) for name in rng.choice(list(COLOURS), 2, replace=False))
    family = BROAD if _chance(rng, 55) else SPARSE
    pattern = "plain" if _chance(rng, 25) else _pick(rng, family)
    upper = Cloth(pattern, _tint(rng, first), _tint(rng, second), int(rng.integers(3, 6)))
    hair = _pick(rng, _HAIRS)
    skin = _pick(rng, _SKINS)
    return Look(
        stature=_factor(rng, 90, 108),
        build=_factor(rng, 86, 122),
        waist=_factor(rng, 78, 92) if skirts else _factor(rng, 88, 108),
        skin=shade(skin, 94 + int(rng.integers(13))),
        hair=hair,
        hair_style=_pick(rng, HAIR_STYLES),
        top=_pick(rng, TOPS),
        upper=upper,
        bottom=_pick(rng, BOTTOMS[2:]) if skirts else _pick(rng, ("trousers", *BOTTOMS[:2])),
        lower=_random_lower(rng),
        fit=int(rng.integers(3)),
        shoes=_tint(rng, _pick(rng, _SHOES)),
        sleeves=upper.second if _chance(rng, 25) else upper.first,
        bag=_pick(rng, BAGS),
        bag_colour=_tint(rng, _pick(rng, list(COLOURS))),
        hat=_pick(rng, HATS),
        hat_colour=_tint(rng, _pick(rng, list(COLOURS))),
        scarf=_tint(rng, _pick(rng, list(COLOURS))) if _chance(rng, 12) else None,
        glasses=_chance(rng, 25),
        beard=not skirts and _chance(rng, 25),
    )


def _random_lower(rng: np.random.Generator) -> Cloth:
    first, second = (_tint(rng, _pick(rng, _LOWERS)) for _ in range(2))
    pattern = _pick(rng, ("plain", "plain", "plain", "panels", "checks", "hoops"))
    return Cloth(pattern, first, second, int(rng.integers(3, 6)))


def look_alike(look: Look, taken: Sequence[Look], rng: np.random.Generator) -> Look:
    """Return a look in the same colours that differs in pattern, cut, bag, hair or hat.

    The pattern comes from the same family, so that the shares of the two colours hardly differ.

    Args:
        look: the look to resemble.
        taken: other lookalikes, whose patterns are avoided.
        rng: random numbers.
    """
    used = {other.upper.pattern for other in taken}
    family = BROAD if look.upper.pattern in BROAD else SPARSE
    free = [pattern for pattern in family if pattern not in used] or list(family)
    other = random_look(rng)
    upper = replace(look.upper, pattern=_pick(rng, free), count=other.upper.count)
    skirts = other.bottom in BOTTOMS[2:]
    return replace(
        other,
        upper=upper,
        lower=look.lower,
        sleeves=upper.second if other.sleeves == other.upper.second else upper.first,
        shoes=look.shoes if _chance(rng, 50) else other.shoes,
        bag_colour=look.bag_colour,
        skin=look.skin if _chance(rng, 50) else other.skin,
        hair=look.hair if _chance(rng, 50) else other.hair,
        beard=other.beard and not skirts,
    )


def make_looks(count: int, alike: Sequence[int], rng: np.random.Generator) -> list[Look]:
    """Return `count` looks, many in groups that look alike.

    Args:
        count: number of looks.
        alike: numbers of lookalikes; each group draws one of them.
        rng: random numbers.
    """
    looks: list[Look] = []
    while len(looks) < count:
        group = [random_look(rng)]
        for _ in range(_pick(rng, alike)):
            group.append(look_alike(group[0], group, rng))
        looks.extend(group)
    return looks[:count]


_STEPS = 64
# Degrees of the arcsine of -1..1 in 64ths, and how bright cloth is there under light from the left.
_ARCSINE = np.rint(np.degrees(np.arcsin(np.arange(-_STEPS, _STEPS + 1) / _STEPS))).astype(np.int32)
_LIGHT = np.array(
    [
        low + (high - low) * (at - start) // (stop - start)
        for start, stop, low, high in (
            (-64, -40, 196, 246),
            (-40, -10, 246, 255),
            (-10, 30, 255, 218),
            (30, 65, 218, 150),
        )
        for at in range(start, stop)
    ],
    dtype=np.uint8,
)


@dataclass(frozen=True, slots=True)
class Draped:
    """Cloth around a body part seen from one side: a texture for `drawing.draw`.

    Attributes:
        cloth: pattern and colours.
        centre: middle column of the part.
        half_width: distance from the middle to the silhouette.
        top: first row of the garment.
        bottom: last row of the garment.
        view: rotation of the body in degrees; 0 faces the camera.
    """

    cloth: Cloth
    centre: float
    half_width: float
    top: float
    bottom: float
    view: int

    def __call__(self, columns: Points, rows: Points) -> Picture:
        """Return (H, W, 3) uint8 colours at columns (W,) and rows (H,)."""
        across = np.floor((columns - self.centre) * (_STEPS / self.half_width) + 0.5)
        index = np.clip(across, -_STEPS, _STEPS).astype(np.int32) + _STEPS
        # Longitude on the body: 0 in front, 90 at its left side.
        around = (_ARCSINE[index] - self.view) % 360
        down = np.floor((rows - self.top) * (1024 / (self.bottom - self.top))).astype(np.int32)
        second = _is_second(self.cloth, around[None, :], np.clip(down, 0, 1023)[:, None])
        colours = np.where(
            second[..., None],
            np.array(self.cloth.second, dtype=np.uint8),
            np.array(self.cloth.first, dtype=np.uint8),
        )
        light = _LIGHT[index].astype(np.uint16)
        lit: Picture = ((colours * light[None, :, None] + 255) >> 8).astype(np.uint8)
        return lit


def _is_second(
    cloth: Cloth, around: NDArray[np.int32], down: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Return where the second colour is: `around` (1, W) in 0..359, `down` (H, 1) in 0..1023."""
    n = cloth.count
    nothing = np.zeros((down.shape[0], around.shape[1]), dtype=np.bool_)
    row, column = down * n, around * (2 * n)
    front = np.minimum(around, 360 - around)
    match cloth.pattern:
        case "hoops":
            mask = ((row * 2) >> 10) & 1 == 1
        case "stripes":
            mask = (column * 2 // 360) & 1 == 1
        case "checks":
            mask = (((row * 2) >> 10) ^ (column * 2 // 360)) & 1 == 1
        case "halves":
            mask = around < 180
        case "two_tone":
            mask = down > 500
        case "diamonds":
            mask = np.abs((row & 1023) - 512) + np.abs(column % 360 - 180) * 1024 // 360 < 512
        case "diagonals":
            mask = ((row + column * 1024 // 360) >> 9) & 1 == 1
        case "dots":
            v, u = (row & 1023) - 512, (column % 360 - 180) * 1024 // 360
            mask = u * u + v * v < 280 * 280
        case "band":
            mask = (down > 300) & (down < 480)
        case "bands":
            mask = (down > 250) & (down < 650) & ((down // 80) & 1 == 1)
        case "yoke":
            mask = down < 250
        case "panels":
            mask = np.abs(front - 90) < 24
        case "sash":
            mask = np.abs(down - 500 + _sway(around)) < 90
        case "plaid":
            mask = ((row & 1023) < 230) | (column % 360 < 80)
        case "badge":
            mask = (front < 34) & (down > 220) & (down < 500)
        case "open":
            mask = front < 17
        case _:
            mask = nothing
    whole: NDArray[np.bool_] = mask | nothing
    return whole


def _sway(around: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return -400..400, rising over the front and falling over the back."""
    front: NDArray[np.int32] = np.abs((around + 90) % 360 - 180) * 800 // 180 - 400
    return front
