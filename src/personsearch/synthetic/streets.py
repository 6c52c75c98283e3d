"""Draws the scenery of cameras, and the objects that hide people there."""

from collections.abc import Callable

import numpy as np

from personsearch.synthetic.drawing import (
    Colour,
    Picture,
    Shape,
    capsule,
    ellipse,
    paint,
    palette,
    polygon,
    rectangle,
    shade,
    trapezoid,
)
from personsearch.synthetic.optics import Camera
from personsearch.synthetic.randomness import Random

FURNITURE: dict[str, tuple[str, ...]] = {
    "street": ("pole", "bin", "car", "sign", "pole"),
    "park": ("bush", "bench", "pole", "bush"),
    "hall": ("planter", "sign", "pole", "bench"),
    "plaza": ("planter", "bench", "bin", "pole"),
    "arcade": ("sign", "planter", "bin", "pole"),
    "crossing": ("car", "pole", "sign", "car"),
}
"""Objects in each kind of scenery."""
PLACES = tuple(FURNITURE)
"""Kinds of scenery."""

_GROUNDS = dict(zip(PLACES, palette("8e8c8a 688246 bcb4a8 b0a496 a69896 686868"), strict=True))
_WALLS = palette("a58c78 b4a596 8c695f acaaa5 807869 be968c b4a078 8c96a5")


def backdrop(camera: Camera) -> Picture:
    """Draw a camera's empty scenery: (H, W, 3) uint8 blue, green, red."""
    rng = Random(camera.seed, 21)
    width, height = camera.size
    picture = np.empty((height, width, 3), dtype=np.uint8)
    floor = int(camera.far * height) - 4
    sky: Colour = (232, 214, 190) if camera.place != "hall" else (190, 196, 200)
    _shade_rows(picture, 0, floor, sky, shade(sky, 106))
    if camera.place == "park":
        _trees(picture, floor, rng)
    elif camera.place == "hall":
        _hall(picture, floor, rng)
    else:
        _buildings(picture, floor, rng, shops=camera.place in ("arcade", "street"))
    ground = rng.tint(_GROUNDS[camera.place], 90, 110)
    _shade_rows(picture, floor, height, shade(ground, 88), shade(ground, 106))
    _ground_detail(picture, camera, floor, ground, rng)
    _mottle(picture, rng)
    return picture


def _shade_rows(picture: Picture, start: int, stop: int, first: Colour, last: Colour) -> None:
    rows = max(1, stop - start)
    steps = np.arange(rows)[:, None]
    blend = (np.array(first) * (rows - steps) + np.array(last) * steps) // rows
    picture[start:stop] = np.clip(blend, 0, 255)[: stop - start, None]


def _mottle(picture: Picture, rng: Random) -> None:
    """Add the unevenness of real surfaces: coarse blocks and fine grain."""
    height, width = picture.shape[:2]
    fine = rng.integers(-7, 8, (height, width), dtype=np.int16)
    coarse = rng.integers(-3, 4, (height // 6 + 1, width // 6 + 1), dtype=np.int16)
    fine += coarse.repeat(6, axis=0).repeat(6, axis=1)[:height, :width]
    picture[...] = np.clip(picture + fine[..., None], 0, 255)


def _buildings(picture: Picture, floor: int, rng: Random, shops: bool) -> None:
    width = picture.shape[1]
    x = -rng.randrange(0, 60)
    while x < width:
        wide = width * rng.randrange(18, 38) // 100
        top = rng.randrange(-60, max(1, floor // 3))
        wall = rng.pick(_WALLS)
        shapes = [
            rectangle(x, top, x + wide, floor, wall),
            rectangle(x + wide - 8, top, x + wide, floor, shade(wall, 76)),
        ]
        storey = max(24, floor // 4)
        ground_floor = floor - storey if shops else floor - storey // 3
        columns = rng.randrange(3, 6)
        glass = rng.tint((130, 112, 92), 70, 130)
        for row in range(12):
            y = ground_floor - (row + 1) * storey + storey // 4
            if y + storey < top:
                break
            for column in range(columns):
                left = x + wide * (4 * column + 1) / (4 * columns)
                right = left + wide * 2 / (4 * columns)
                bottom = y + storey * 0.55
                shapes += [
                    rectangle(left - 2, y - 2, right + 2, bottom + 3, shade(wall, 122)),
                    rectangle(left, y, right, bottom, glass),
                    rectangle(left, y, right, y + (bottom - y) * 0.3, shade(glass, 130)),
                ]
        if shops:
            shapes += _shop(x, floor - storey, wide, storey, rng.colour(60, 210))
        paint(picture, shapes)
        x += wide


def _shop(x: int, y: int, wide: int, storey: int, awning: Colour) -> list[Shape]:
    floor, hem, step = y + storey, y + storey * 0.28, (wide - 12) / 8
    edges = [(x + 4 + k * step, x - 2 + k * step * 1.02) for k in range(9)]
    return [
        rectangle(x + 6, y + storey * 0.2, x + wide - 14, floor, (92, 84, 78)),
        rectangle(x + 10, y + storey * 0.3, x + wide * 0.58, floor - 7, (168, 160, 140)),
        rectangle(x + wide * 0.66, y + storey * 0.3, x + wide - 20, floor, (74, 70, 66)),
        trapezoid((x + 4, x + wide - 12, y + 2), (x - 2, x + wide - 6, hem), awning),
        *(
            trapezoid((a, b, y + 2), (c, d, hem), (226, 228, 228))
            for (a, c), (b, d) in zip(edges[1::2], edges[2::2], strict=True)
        ),
    ]


def _trees(picture: Picture, floor: int, rng: Random) -> None:
    width = picture.shape[1]
    for _ in range(26):
        x = rng.randrange(-20, width + 20)
        r = floor * rng.randrange(14, 36) / 100
        y = floor - r * rng.randrange(60, 220) / 100
        leaf = rng.tint((58, 112, 78), 62, 132)
        shapes = [capsule((x, y), r * 0.1, (x, floor), r * 0.12, (52, 68, 84))]
        for _ in range(7):
            dx, dy = (rng.randrange(-70, 71) * r / 100 for _ in range(2))
            tone = rng.tint(leaf, 84, 118)
            shapes.append(ellipse(x + dx, y + dy * 0.7, r * 0.55, r * 0.5, tone))
        paint(picture, shapes)
    paint(picture, [rectangle(0, floor - 10, width, floor + 2, (60, 104, 84))])


def _hall(picture: Picture, floor: int, rng: Random) -> None:
    width = picture.shape[1]
    wall = rng.tint((176, 184, 186), 90, 106)
    shapes = [
        rectangle(0, floor * 0.25, width, floor, wall),
        rectangle(0, floor - 12, width, floor, shade(wall, 72)),
    ]
    count = rng.randrange(5, 8)
    for k in range(count):
        x = width * (2 * k + 1) / (2 * count)
        panel = rng.colour(70, 220)
        half = width / count * 0.3
        shapes += [
            rectangle(x - half, floor * 0.42, x + half, floor - 14, shade(panel, 60)),
            rectangle(x - half + 4, floor * 0.45, x + half - 4, floor * 0.8, panel),
            rectangle(x + half * 1.3, floor * 0.25, x + half * 1.7, floor, shade(wall, 112)),
            rectangle(x - half, 4, x + half, 14, (250, 250, 250)),
        ]
    paint(picture, shapes)


def _ground_detail(
    picture: Picture, camera: Camera, floor: int, ground: Colour, rng: Random
) -> None:
    height, width = picture.shape[:2]
    horizon = camera.horizon * height
    dark, light = shade(ground, 86), shade(ground, 112)
    shapes: list[Shape] = []
    if camera.place in ("plaza", "hall", "arcade", "street"):
        y = float(floor)
        while y < height:
            shapes.append(rectangle(0, y, width, y + 1 + (y - floor) / 160, dark))
            y += 5 + (y - horizon) * 0.12
        centre = width * rng.randrange(30, 70) / 100
        for k in range(-30, 31):
            near = centre + k * width * 0.11
            far = centre + k * width * 0.11 * ((floor - horizon) / (height - horizon))
            shapes.append(trapezoid((far, far + 1, floor), (near, near + 3, height), dark))
    if camera.place in ("street", "crossing"):
        kerb = floor + (height - floor) * 0.14
        shapes += [
            rectangle(0, floor, width, kerb, (158, 162, 166)),
            rectangle(0, kerb, width, kerb + 4, (190, 194, 196)),
            rectangle(0, kerb + 4, width, kerb + 8, (72, 72, 74)),
        ]
    if camera.place == "crossing":
        top = floor + (height - floor) * 0.32
        for k in range(-6, 10):
            x = width * 0.13 * k
            far = x + width * 0.12
            stripe = (far, far + width * 0.05, top), (x, x + width * 0.07, height)
            shapes.append(trapezoid(*stripe, (206, 208, 208)))
    if camera.place == "park":
        path = (width * 0.42, width * 0.60, floor), (0, width * 1.02, height)
        shapes.append(trapezoid(*path, (146, 170, 186)))
        for _ in range(260):
            x, y = rng.randrange(0, width), rng.randrange(floor, height)
            tone = rng.pick((dark, light))
            shapes.append(ellipse(x, y, 1 + (y - floor) / 60, 1 + (y - floor) / 130, tone))
    paint(picture, shapes)


def _pole(rng: Random) -> list[Shape]:
    tone = rng.tint((96, 92, 88), 60, 150)
    r = 0.035 + rng.randrange(0, 40) / 1000
    return [
        rectangle(-r, -2.2, r, 0, shade(tone, 70)),
        rectangle(-r, -2.2, r * 0.3, 0, tone),
        rectangle(-r * 1.7, -0.12, r * 1.7, 0, shade(tone, 60)),
    ]


def _bush(rng: Random) -> list[Shape]:
    leaf = rng.tint((54, 110, 72), 64, 134)
    shapes = [ellipse(0, -0.22, 0.34, 0.23, shade(leaf, 66))]
    for _ in range(22):
        x, y = rng.hundredths(-30, 31), rng.hundredths(-52, -2)
        shapes.append(ellipse(x, y, 0.10, 0.08, rng.tint(leaf, 74, 130)))
    return shapes


def _bin(rng: Random) -> list[Shape]:
    tone = rng.tint((76, 96, 64), 60, 160)
    return [
        trapezoid((-0.15, 0.15, -0.5), (-0.13, 0.13, 0), shade(tone, 74)),
        trapezoid((-0.15, 0.05, -0.5), (-0.13, 0.04, 0), tone),
        ellipse(0, -0.5, 0.165, 0.045, shade(tone, 118)),
        ellipse(0, -0.5, 0.12, 0.026, (36, 36, 36)),
    ]


def _sign(rng: Random) -> list[Shape]:
    board = rng.colour(50, 220)
    return [
        rectangle(-0.2, -0.66, 0.2, 0.0, shade(board, 60)),
        rectangle(-0.175, -0.63, 0.175, -0.08, board),
        rectangle(-0.12, -0.55, 0.12, -0.47, (236, 236, 236)),
        rectangle(-0.12, -0.40, 0.06, -0.35, (220, 220, 220)),
        rectangle(-0.12, -0.30, 0.09, -0.25, (220, 220, 220)),
    ]


def _bench(rng: Random) -> list[Shape]:
    wood = rng.tint((64, 100, 140), 70, 130)
    return [
        *(
            rectangle(-0.55, y, 0.55, y + 0.065, shade(wood, percent))
            for y, percent in ((-0.48, 92), (-0.48 + 0.09, 98), (-0.48 + 0.09 * 2, 104))
        ),
        rectangle(-0.58, -0.25, 0.58, -0.19, shade(wood, 120)),
        *(rectangle(x, -0.5, x + 0.05, 0, (52, 50, 48)) for x in (-0.5, 0.45)),
    ]


_CAR = [(-1.22, -0.12), (-1.24, -0.40), (-1.14, -0.52), (-0.70, -0.56), (-0.42, -0.82)]
_CAR += [(0.40, -0.84), (0.74, -0.56), (1.16, -0.47), (1.24, -0.32), (1.22, -0.12)]


def _car(rng: Random) -> list[Shape]:
    body = rng.colour(40, 220)
    glass: Colour = (120, 108, 92)
    return [
        rectangle(-1.15, -0.16, 1.15, -0.08, (40, 40, 42)),
        polygon(_CAR, body),
        rectangle(-1.23, -0.24, 1.23, -0.12, shade(body, 72)),
        polygon(((-0.60, -0.56), (-0.38, -0.77), (-0.04, -0.78), (-0.04, -0.56)), glass),
        polygon(((0.02, -0.56), (0.02, -0.78), (0.36, -0.79), (0.62, -0.56)), shade(glass, 112)),
        rectangle(-0.02, -0.55, 0.0, -0.16, shade(body, 60)),
        ellipse(-0.74, -0.14, 0.19, 0.19, (34, 34, 34)),
        ellipse(-0.74, -0.14, 0.10, 0.10, (150, 150, 150)),
        ellipse(0.76, -0.14, 0.19, 0.19, (34, 34, 34)),
        ellipse(0.76, -0.14, 0.10, 0.10, (150, 150, 150)),
        ellipse(1.19, -0.38, 0.04, 0.05, (200, 240, 250)),
        ellipse(-1.20, -0.42, 0.03, 0.05, (50, 50, 200)),
    ]


def _planter(rng: Random) -> list[Shape]:
    stone = rng.tint((140, 150, 158), 76, 116)
    tones = [rng.tint((60, 120, 80), 70, 130) for _ in range(9)]
    return [
        *(
            ellipse((7 * k - 28) / 100, -0.40 - rng.hundredths(0, 16), 0.12, 0.11, leaf)
            for k, leaf in enumerate(tones)
        ),
        rectangle(-0.40, -0.36, 0.40, 0.0, shade(stone, 80)),
        rectangle(-0.40, -0.36, 0.24, 0.0, stone),
        rectangle(-0.43, -0.38, 0.43, -0.31, shade(stone, 114)),
    ]


_PROPS: dict[str, Callable[[Random], list[Shape]]] = {
    "pole": _pole,
    "bush": _bush,
    "bin": _bin,
    "sign": _sign,
    "bench": _bench,
    "car": _car,
    "planter": _planter,
}


def prop(kind: str, seed: int) -> list[Shape]:
    """Return an object as shapes in heights of a person, standing at (0, 0)."""
    return _PROPS[kind](Random(seed, 22))
