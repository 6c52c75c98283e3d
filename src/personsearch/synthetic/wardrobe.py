"""The looks of drawn people, and of others who resemble them on purpose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from personsearch.synthetic.drawing import Colour, Picture, Points, palette
from personsearch.synthetic.randomness import Random

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

_SKINS = palette("f0ccb0 e4b896 d09c78 b27e5c 8a5c42 62402e")
_HAIRS = palette("1c1a1c 422e22 68442c bc925c d6ba96 a0522e 969696 cecece")
_SHOES = ("black", "white", "brown", "grey", "red", "blue", "navy", "beige", "yellow")
_LOWERS = ("black", "navy", "blue", "charcoal", "grey", "beige", "brown", "olive", "white", "red")

BROAD = ("hoops", "stripes", "checks", "halves", "two_tone", "diamonds", "diagonals")
"""Patterns with about half of the second colour."""
SPARSE = ("dots", "band", "yoke", "panels", "sash", "plaid", "badge", "open", "bands")
"""Patterns with little of the second colour."""
TOPS = ("tee", "long", "jacket", "coat", "vest")
_SKIRTS = ("skirt", "long_skirt")
BOTTOMS = ("trousers", "shorts", *_SKIRTS)
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


def _tint(rng: Random, name: str) -> Colour:
    """Return a named colour, a little lighter or darker."""
    return rng.tint(COLOURS[name], 88, 113)


def random_look(rng: Random) -> Look:
    """Return a random look."""
    skirts = rng.happens(35)
    names = list(COLOURS)
    first, second = rng.choice(names, 2, replace=False).tolist()
    family = BROAD if rng.happens(55) else SPARSE
    pattern = "plain" if rng.happens(25) else rng.pick(family)
    upper = Cloth(pattern, _tint(rng, first), _tint(rng, second), rng.randrange(3, 6))
    hair = rng.pick(_HAIRS)
    skin = rng.pick(_SKINS)
    return Look(
        stature=rng.hundredths(90, 109),
        build=rng.hundredths(86, 123),
        waist=rng.hundredths(78, 93) if skirts else rng.hundredths(88, 109),
        skin=rng.tint(skin, 94, 107),
        hair=hair,
        hair_style=rng.pick(HAIR_STYLES),
        top=rng.pick(TOPS),
        upper=upper,
        bottom=rng.pick(_SKIRTS) if skirts else rng.pick(("trousers", *BOTTOMS[:2])),
        lower=_random_lower(rng),
        fit=rng.randrange(0, 3),
        shoes=_tint(rng, rng.pick(_SHOES)),
        sleeves=upper.second if rng.happens(25) else upper.first,
        bag=rng.pick(BAGS),
        bag_colour=_tint(rng, rng.pick(names)),
        hat=rng.pick(HATS),
        hat_colour=_tint(rng, rng.pick(names)),
        scarf=_tint(rng, rng.pick(names)) if rng.happens(12) else None,
        glasses=rng.happens(25),
        beard=not skirts and rng.happens(25),
    )


def _random_lower(rng: Random) -> Cloth:
    first, second = (_tint(rng, rng.pick(_LOWERS)) for _ in range(2))
    pattern = rng.pick(("plain", "plain", "plain", "panels", "checks", "hoops"))
    return Cloth(pattern, first, second, rng.randrange(3, 6))


def look_alike(group: Sequence[Look], rng: Random) -> Look:
    """Return a look in the colours of the group's first, with another pattern, cut, bag or hair.

    The pattern comes from the same family, so that the shares of the two colours hardly differ.
    """
    look = group[0]
    used = {member.upper.pattern for member in group}
    family = BROAD if look.upper.pattern in BROAD else SPARSE
    free = [pattern for pattern in family if pattern not in used] or family
    other = random_look(rng)
    upper = replace(look.upper, pattern=rng.pick(free), count=other.upper.count)
    return replace(
        other,
        upper=upper,
        lower=look.lower,
        sleeves=upper.second if other.sleeves == other.upper.second else upper.first,
        shoes=look.shoes if rng.happens(50) else other.shoes,
        bag_colour=look.bag_colour,
        skin=look.skin if rng.happens(50) else other.skin,
        hair=look.hair if rng.happens(50) else other.hair,
    )


def look_group(alike: Sequence[int], rng: Random) -> list[Look]:
    """Return a look and a number, from `alike`, of others that resemble it."""
    group = [random_look(rng)]
    for _ in range(rng.pick(alike)):
        group.append(look_alike(group, rng))
    return group


_STEPS = 64
# Degrees of the arcsine of -1..1 in 64ths, and how bright cloth is there under light from the left.
_ARCSINE = np.rint(np.degrees(np.arcsin(np.arange(-_STEPS, _STEPS + 1) / _STEPS))).astype(np.int32)
_LIGHT = np.floor(
    # The small number keeps whole results whole on every machine.
    np.interp(range(-_STEPS, _STEPS + 1), (-64, -40, -10, 30, 65), (196, 246, 255, 218, 150)) + 1e-3
).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Draped:
    """Cloth around a body part seen from one side: a texture for `drawing.draw`."""

    cloth: Cloth
    half_width: float  # from the middle to the silhouette
    top: float  # first row of the garment
    bottom: float  # its last row
    view: int  # degrees that the body is turned; 0 faces the camera

    def __call__(self, columns: Points, rows: Points) -> Picture:
        """Return (H, W, 3) uint8 colours at columns (W,) and rows (H,)."""
        across = np.floor(columns * (_STEPS / self.half_width) + 0.5)
        index = np.clip(across, -_STEPS, _STEPS).astype(np.int32) + _STEPS
        # Longitude on the body: 0 in front, 90 at its left side.
        around = (_ARCSINE[index] - self.view) % 360
        down = np.floor((rows - self.top) * (1024 / (self.bottom - self.top))).astype(np.int32)
        second = _is_second(self.cloth, around[None, :], np.clip(down, 0, 1023)[:, None])
        paints = np.array((self.cloth.first, self.cloth.second), dtype=np.uint8)
        light = _LIGHT[index].astype(np.uint16)
        colours = paints[second.astype(np.intp)]
        lit: Picture = ((colours * light[None, :, None] + 255) >> 8).astype(np.uint8)
        return lit


def _is_second(
    cloth: Cloth, around: NDArray[np.int32], down: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Return where the second colour is: `around` (1, W) in 0..359, `down` (H, 1) in 0..1023."""
    row, column = down * cloth.count, around * (2 * cloth.count)
    front = np.minimum(around, 360 - around)
    # Within one repeat, -512..511 down and across.
    v, u = (row & 1023) - 512, (column % 360 - 180) * 1024 // 360
    masks: dict[str, Callable[[], NDArray[np.bool_]]] = {
        "plain": lambda: down < 0,
        "hoops": lambda: (row >> 9) & 1 == 1,
        "stripes": lambda: (column // 180) & 1 == 1,
        "checks": lambda: ((row >> 9) ^ (column // 180)) & 1 == 1,
        "halves": lambda: around < 180,
        "two_tone": lambda: down > 500,
        "diamonds": lambda: np.abs(v) + np.abs(column % 360 - 180) * 1024 // 360 < 512,
        "diagonals": lambda: ((row + column * 1024 // 360) >> 9) & 1 == 1,
        "dots": lambda: u * u + v * v < 280 * 280,
        "band": lambda: (down > 300) & (down < 480),
        "bands": lambda: (down > 250) & (down < 650) & ((down // 80) & 1 == 1),
        "yoke": lambda: down < 250,
        "panels": lambda: np.abs(front - 90) < 24,
        # Rises over the front and falls over the back.
        "sash": lambda: np.abs(down - 900 + np.abs((around + 90) % 360 - 180) * 40 // 9) < 90,
        "plaid": lambda: (v < -282) | (column % 360 < 80),
        "badge": lambda: (front < 34) & (down > 220) & (down < 500),
        "open": lambda: front < 17,
    }
    return np.broadcast_to(masks[cloth.pattern](), (down.shape[0], around.shape[1]))
