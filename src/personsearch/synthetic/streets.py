"""Draws the scenery of cameras, and the objects that hide people there."""

from collections.abc import Callable

import numpy as np

from personsearch.synthetic.drawing import (
    Colour,
    Picture,
    Shape,
    capsule,
    ellipse,
    generator,
    paint,
    polygon,
    rectangle,
    shade,
)
from personsearch.synthetic.optics import Camera

PLACES = ("street", "park", "hall", "plaza", "arcade", "crossing")
"""Kinds of scenery."""

_WALLS: tuple[Colour, ...] = (
    (120, 140, 165),
    (150, 165, 180),
    (95, 105, 140),
    (165, 170, 172),
    (105, 120, 128),
    (140, 150, 190),
    (120, 160, 180),
    (165, 150, 140),
)


def backdrop(camera: Camera) -> Picture:
    """Draw a camera's empty scenery: (H, W, 3) uint8 blue, green, red."""
    rng = generator(camera.seed, 21)
    width, height = camera.size
    picture = np.empty((height, width, 3), dtype=np.uint8)
    floor = int(camera.far * height) - 4
    horizon = camera.horizon * height
    sky: Colour = (232, 214, 190) if camera.place != "hall" else (190, 196, 200)
    _shade_rows(picture, 0, floor, sky, shade(sky, 106))
    if camera.place == "park":
        _trees(picture, floor, rng)
    elif camera.place == "hall":
        _hall(picture, floor, rng)
    else:
        _buildings(picture, floor, rng, shops=camera.place in ("arcade", "street"))
    grounds: dict[str, Colour] = {
        "street": (138, 140, 142),
        "park": (70, 130, 104),
        "hall": (168, 180, 188),
        "plaza": (150, 164, 176),
        "arcade": (150, 152, 166),
        "crossing": (104, 104, 104),
    }
    ground = shade(grounds[camera.place], 90 + int(rng.integers(20)))
    _shade_rows(picture, floor, height, shade(ground, 88), shade(ground, 106))
    _ground_detail(picture, camera, floor, horizon, ground, rng)
    _mottle(picture, rng)
    return picture


def _shade_rows(picture: Picture, start: int, stop: int, first: Colour, last: Colour) -> None:
    rows = max(1, stop - start)
    steps = np.arange(rows)[:, None]
    blend = (np.array(first) * (rows - steps) + np.array(last) * steps) // rows
    picture[start:stop] = np.clip(blend, 0, 255)[: stop - start, None]


def _mottle(picture: Picture, rng: np.random.Generator) -> None:
    """Add the unevenness of real surfaces: coarse blocks and fine grain."""
    height, width = picture.shape[:2]
    fine = rng.integers(-7, 8, (height, width), dtype=np.int16)
    coarse = rng.integers(-3, 4, (height // 6 + 1, width // 6 + 1), dtype=np.int16)
    fine += np.repeat(np.repeat(coarse, 6, axis=0), 6, axis=1)[:height, :width]
    picture[...] = np.clip(picture + fine[..., None], 0, 255)


def _buildings(picture: Picture, floor: int, rng: np.random.Generator, shops: bool) -> None:
    width = picture.shape[1]
    x = -int(rng.integers(60))
    while x < width:
        wide = width * (18 + int(rng.integers(20))) // 100
        top = int(rng.integers(-60, max(1, floor // 3)))
        wall = _WALLS[int(rng.integers(len(_WALLS)))]
        shapes = [
            rectangle(x, top, x + wide, floor, wall),
            rectangle(x + wide - 8, top, x + wide, floor, shade(wall, 76)),
        ]
        storey = max(24, floor // 4)
        ground_floor = floor - storey if shops else floor - storey // 3
        columns = 3 + int(rng.integers(3))
        glass = shade((130, 112, 92), 70 + int(rng.integers(60)))
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
            awning = (
                int(rng.integers(60, 210)),
                int(rng.integers(60, 210)),
                int(rng.integers(60, 210)),
            )
            y = floor - storey
            shapes += [
                rectangle(x + 6, y + storey * 0.2, x + wide - 14, floor, (92, 84, 78)),
                rectangle(x + 10, y + storey * 0.3, x + wide * 0.58, floor - 7, (168, 160, 140)),
                rectangle(x + wide * 0.66, y + storey * 0.3, x + wide - 20, floor, (74, 70, 66)),
                polygon(
                    (
                        (x + 4, y + 2),
                        (x + wide - 12, y + 2),
                        (x + wide - 6, y + storey * 0.28),
                        (x - 2, y + storey * 0.28),
                    ),
                    awning,
                ),
            ]
            for k in range(1, 8, 2):
                step = (wide - 12) / 8
                shapes.append(
                    polygon(
                        (
                            (x + 4 + k * step, y + 2),
                            (x + 4 + (k + 1) * step, y + 2),
                            (x - 2 + (k + 1) * step * 1.02, y + storey * 0.28),
                            (x - 2 + k * step * 1.02, y + storey * 0.28),
                        ),
                        (226, 228, 228),
                    )
                )
        paint(picture, shapes)
        x += wide


def _trees(picture: Picture, floor: int, rng: np.random.Generator) -> None:
    width = picture.shape[1]
    for _ in range(26):
        x = int(rng.integers(-20, width + 20))
        r = floor * (14 + int(rng.integers(22))) / 100
        y = floor - r * (60 + int(rng.integers(160))) / 100
        leaf = shade((58, 112, 78), 62 + int(rng.integers(70)))
        shapes = [capsule((x, y), r * 0.1, (x, floor), r * 0.12, (52, 68, 84))]
        for _ in range(7):
            dx, dy = (int(v) * r / 100 for v in rng.integers(-70, 71, 2))
            tone = shade(leaf, 84 + int(rng.integers(34)))
            shapes.append(ellipse(x + dx, y + dy * 0.7, r * 0.55, r * 0.5, tone))
        paint(picture, shapes)
    paint(picture, [rectangle(0, floor - 10, width, floor + 2, (60, 104, 84))])


def _hall(picture: Picture, floor: int, rng: np.random.Generator) -> None:
    width = picture.shape[1]
    wall = shade((176, 184, 186), 90 + int(rng.integers(16)))
    shapes = [rectangle(0, floor * 0.25, width, floor, wall)]
    shapes.append(rectangle(0, floor - 12, width, floor, shade(wall, 72)))
    count = 5 + int(rng.integers(3))
    for k in range(count):
        x = width * (2 * k + 1) / (2 * count)
        panel = (int(rng.integers(70, 220)), int(rng.integers(70, 220)), int(rng.integers(70, 220)))
        half = width / count * 0.3
        shapes += [
            rectangle(x - half, floor * 0.42, x + half, floor - 14, shade(panel, 60)),
            rectangle(x - half + 4, floor * 0.45, x + half - 4, floor * 0.8, panel),
            rectangle(x + half * 1.3, floor * 0.25, x + half * 1.7, floor, shade(wall, 112)),
            rectangle(x - half, 4, x + half, 14, (250, 250, 250)),
        ]
    paint(picture, shapes)


def _ground_detail(
    picture: Picture,
    camera: Camera,
    floor: int,
    horizon: float,
    ground: Colour,
    rng: np.random.Generator,
) -> None:
    height, width = picture.shape[:2]
    dark, light = shade(ground, 86), shade(ground, 112)
    shapes: list[Shape] = []
    if camera.place in ("plaza", "hall", "arcade", "street"):
        y = float(floor)
        while y < height:
            shapes.append(rectangle(0, y, width, y + 1 + (y - floor) / 160, dark))
            y += 5 + (y - horizon) * 0.12
        centre = width * (30 + int(rng.integers(40))) / 100
        for k in range(-30, 31):
            near, far = (
                centre + k * width * 0.11,
                centre + k * width * 0.11 * ((floor - horizon) / (height - horizon)),
            )
            shapes.append(
                polygon(((far, floor), (far + 1, floor), (near + 3, height), (near, height)), dark)
            )
    if camera.place in ("street", "crossing"):
        kerb = floor + (height - floor) * 0.14
        shapes += [
            rectangle(0, floor, width, kerb, (158, 162, 166)),
            rectangle(0, kerb, width, kerb + 4, (190, 194, 196)),
            rectangle(0, kerb + 4, width, kerb + 8, (72, 72, 74)),
        ]
    if camera.place == "crossing":
        for k in range(-6, 10):
            x = width * 0.13 * k
            slant = width * 0.12
            top = floor + (height - floor) * 0.32
            shapes.append(
                polygon(
                    (
                        (x + slant, top),
                        (x + slant + width * 0.05, top),
                        (x + width * 0.07, height),
                        (x, height),
                    ),
                    (206, 208, 208),
                )
            )
    if camera.place == "park":
        shapes.append(
            polygon(
                (
                    (width * 0.42, floor),
                    (width * 0.60, floor),
                    (width * 1.02, height),
                    (width * 0.0, height),
                ),
                (146, 170, 186),
            )
        )
        for _ in range(260):
            x, y = int(rng.integers(width)), int(rng.integers(floor, height))
            tone = light if int(rng.integers(2)) else dark
            shapes.append(ellipse(x, y, 1 + (y - floor) / 60, 1 + (y - floor) / 130, tone))
    paint(picture, shapes)


def _pole(rng: np.random.Generator) -> list[Shape]:
    tone = shade((96, 92, 88), 60 + int(rng.integers(90)))
    r = 0.035 + int(rng.integers(40)) / 1000
    return [
        rectangle(-r, -2.2, r, 0, shade(tone, 70)),
        rectangle(-r, -2.2, r * 0.3, 0, tone),
        rectangle(-r * 1.7, -0.12, r * 1.7, 0, shade(tone, 60)),
    ]


def _bush(rng: np.random.Generator) -> list[Shape]:
    leaf = shade((54, 110, 72), 64 + int(rng.integers(70)))
    shapes = [ellipse(0, -0.22, 0.34, 0.23, shade(leaf, 66))]
    for _ in range(22):
        x, y = int(rng.integers(-30, 31)) / 100, int(rng.integers(-52, -2)) / 100
        shapes.append(ellipse(x, y, 0.10, 0.08, shade(leaf, 74 + int(rng.integers(56)))))
    return shapes


def _bin(rng: np.random.Generator) -> list[Shape]:
    tone = shade((76, 96, 64), 60 + int(rng.integers(100)))
    return [
        polygon(((-0.15, -0.5), (0.15, -0.5), (0.13, 0), (-0.13, 0)), shade(tone, 74)),
        polygon(((-0.15, -0.5), (0.05, -0.5), (0.04, 0), (-0.13, 0)), tone),
        ellipse(0, -0.5, 0.165, 0.045, shade(tone, 118)),
        ellipse(0, -0.5, 0.12, 0.026, (36, 36, 36)),
    ]


def _sign(rng: np.random.Generator) -> list[Shape]:
    tone = tuple(int(v) for v in rng.integers(50, 220, 3))
    board: Colour = (tone[0], tone[1], tone[2])
    return [
        rectangle(-0.2, -0.66, 0.2, 0.0, shade(board, 60)),
        rectangle(-0.175, -0.63, 0.175, -0.08, board),
        rectangle(-0.12, -0.55, 0.12, -0.47, (236, 236, 236)),
        rectangle(-0.12, -0.40, 0.06, -0.35, (220, 220, 220)),
        rectangle(-0.12, -0.30, 0.09, -0.25, (220, 220, 220)),
    ]


def _bench(rng: np.random.Generator) -> list[Shape]:
    wood = shade((64, 100, 140), 70 + int(rng.integers(60)))
    shapes = []
    for k in range(3):
        y = -0.48 + 0.09 * k
        shapes.append(rectangle(-0.55, y, 0.55, y + 0.065, shade(wood, 92 + 6 * k)))
    shapes.append(rectangle(-0.58, -0.25, 0.58, -0.19, shade(wood, 120)))
    for x in (-0.5, 0.45):
        shapes.append(rectangle(x, -0.5, x + 0.05, 0, (52, 50, 48)))
    return shapes


def _car(rng: np.random.Generator) -> list[Shape]:
    body: Colour = (
        int(rng.integers(40, 220)),
        int(rng.integers(40, 220)),
        int(rng.integers(40, 220)),
    )
    glass: Colour = (120, 108, 92)
    return [
        rectangle(-1.15, -0.16, 1.15, -0.08, (40, 40, 42)),
        polygon(
            (
                (-1.22, -0.12),
                (-1.24, -0.40),
                (-1.14, -0.52),
                (-0.70, -0.56),
                (-0.42, -0.82),
                (0.40, -0.84),
                (0.74, -0.56),
                (1.16, -0.47),
                (1.24, -0.32),
                (1.22, -0.12),
            ),
            body,
        ),
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


def _planter(rng: np.random.Generator) -> list[Shape]:
    stone = shade((140, 150, 158), 76 + int(rng.integers(40)))
    shapes = [
        ellipse(x / 100, -0.40 - int(rng.integers(16)) / 100, 0.12, 0.11, leaf)
        for x, leaf in zip(
            range(-28, 29, 7),
            (shade((60, 120, 80), 70 + int(v)) for v in rng.integers(0, 60, 9)),
            strict=True,
        )
    ]
    return [
        *shapes,
        rectangle(-0.40, -0.36, 0.40, 0.0, shade(stone, 80)),
        rectangle(-0.40, -0.36, 0.24, 0.0, stone),
        rectangle(-0.43, -0.38, 0.43, -0.31, shade(stone, 114)),
    ]


_PROPS: dict[str, Callable[[np.random.Generator], list[Shape]]] = {
    "pole": _pole,
    "bush": _bush,
    "bin": _bin,
    "sign": _sign,
    "bench": _bench,
    "car": _car,
    "planter": _planter,
}

FURNITURE: dict[str, tuple[str, ...]] = {
    "street": ("pole", "bin", "car", "sign", "pole"),
    "park": ("bush", "bench", "pole", "bush"),
    "hall": ("planter", "sign", "pole", "bench"),
    "plaza": ("planter", "bench", "bin", "pole"),
    "arcade": ("sign", "planter", "bin", "pole"),
    "crossing": ("car", "pole", "sign", "car"),
}
"""Objects in each kind of scenery."""


def prop(kind: str, seed: int) -> list[Shape]:
    """Return an object as shapes in heights of a person, standing at (0, 0)."""
    rng = generator(seed, 22)
    return _PROPS[kind](rng)
