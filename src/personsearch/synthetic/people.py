"""Draws one walking person from a look, a view angle and a step.

The body is a small 3D skeleton, x to the person's left, y up, z forward, in units of the person's
height with the feet at zero. It is turned and drawn from back to front, so that all views agree: a
backpack is hidden in front, a badge behind.
"""

import math
from dataclasses import replace

from personsearch.synthetic.drawing import (
    Colour,
    Shape,
    arc,
    capsule,
    cosine,
    ellipse,
    polygon,
    shade,
    sine,
)
from personsearch.synthetic.wardrobe import Cloth, Draped, Look

_PITCH = 0.12  # how much lower in the picture a point is for each unit nearer to the camera
_SWING = 25  # degrees of a leg, forward and back
_HEAD = (0.0, 0.922, 0.012)
_BARE_NECK = ("short", "bald", "bun", "ponytail")

_Point = tuple[float, float, float]


class _View:
    """Projection of a body that is turned by `degrees`."""

    def __init__(self, degrees: int) -> None:
        self.degrees = degrees
        self.facing = cosine(degrees)  # 1 towards the camera, -1 away from it
        self.turned = sine(degrees)  # 1 towards the right of the picture

    def __call__(self, point: _Point) -> tuple[float, float]:
        x, y, z = point
        return x * self.facing + z * self.turned, -y + self.depth(point) * _PITCH

    def depth(self, point: _Point) -> float:
        """Return how much nearer to the camera a point is than the body's axis."""
        x, _, z = point
        return z * self.facing - x * self.turned

    def breadth(self, lateral: float, forward: float) -> float:
        """Return half the visible width of an upright elliptic cylinder."""
        a, b = lateral * self.facing, forward * self.turned
        return math.sqrt(a * a + b * b)


def person(look: Look, degrees: int, step: int) -> list[Shape]:
    """Return the person as shapes from back to front, feet at (0, 0), crown near (0, -1).

    Args:
        look: appearance; the caller scales by `look.stature`.
        degrees: 0 faces the camera, 90 walks to the right of the picture, 180 away.
        step: degrees of the walking cycle.
    """
    view = _View(degrees)
    legs, arms = (
        sorted((limb(look, view, step, side) for side in (-1, 1)), key=lambda part: part[0])
        for limb in (_leg, _arm)
    )
    bag_behind, bag_before = _bag(look, view)
    hair_behind, hair_before = _hanging_hair(look, view)
    neck = (view((0.0, 0.815, 0.0)), 0.036, view((0.0, 0.88, 0.004)), 0.029)
    return [
        *(shape for _, leg in legs for shape in leg),
        *(shape for depth, arm in arms if depth < 0 for shape in arm),
        *bag_behind,
        *hair_behind,
        capsule(*neck, shade(look.skin, 78)),
        *_garments(look, view, step),
        *bag_before,
        *(shape for depth, arm in arms if depth >= 0 for shape in arm),
        *_scarf(look, view),
        *_head(look, view),
        *hair_before,
        *_hat(look, view),
    ]


def shadow() -> list[Shape]:
    """Return the shadow at a person's feet, in the same units."""
    return [ellipse(0.03, -0.01, 0.20, 0.045, (0, 0, 0))]


def _limb(
    view: _View, start: _Point, r1: float, end: _Point, r2: float, paint: Colour
) -> list[Shape]:
    (x1, y1), (x2, y2) = view(start), view(end)
    light = (x1 - 0.22 * r1, y1), (x2 - 0.22 * r2, y2)
    return [
        capsule((x1, y1), r1, (x2, y2), r2, shade(paint, 76)),
        capsule(light[0], 0.74 * r1, light[1], 0.74 * r2, paint),
    ]


def _lerp(a: _Point, b: _Point, t: float) -> _Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


def _hang(start: _Point, x: float, length: float, degrees: int) -> _Point:
    """Return the end, at `x`, of a bone that hangs from `start` and is turned forward."""
    return x, start[1] - length * cosine(degrees), start[2] + length * sine(degrees)


def _swing(step: int, side: int) -> tuple[int, int]:
    """Return degrees of a thigh forward and of its knee."""
    thigh = round(_SWING * sine(step) * side)
    return thigh, 6 + round(34 * max(0.0, cosine(step) * side))


def _leg(look: Look, view: _View, step: int, side: int) -> tuple[float, list[Shape]]:
    """Return depth and shapes of one leg."""

    def reach(side: int) -> float:
        thigh, bend = _swing(step, side)
        return 0.245 * cosine(thigh) + 0.215 * cosine(thigh - bend)

    thigh, bend = _swing(step, side)
    wide, fit, cloth = look.build, look.fit, look.lower
    x = side * 0.05 * wide
    # The longer leg stands: the hips are as high as it allows.
    hip = (x, 0.042 + max(reach(1), reach(-1)), 0.0)
    knee = _hang(hip, x * 0.95, 0.245, thigh)
    ankle = _hang(knee, x * 0.9, 0.215, thigh - bend)
    pitch = max(-60, min(12, thigh - bend + 8 if bend > 20 else thigh // 2))
    x, y, z = ankle
    toe = view((x + side * 0.012, y - 0.024 + 0.085 * sine(pitch), z + 0.085 * cosine(pitch)))
    heel = view((x, y - 0.02, z - 0.018))
    sole = (heel[0], heel[1] + 0.014), (toe[0], toe[1] + 0.009)
    shapes = [
        capsule(heel, 0.023, toe, 0.017, look.shoes),
        capsule(sole[0], 0.011, sole[1], 0.010, shade(look.shoes, 55)),
    ]
    if look.bottom == "trousers":
        shapes += _limb(view, knee, 0.042 * wide, ankle, (0.028, 0.036, 0.047)[fit], cloth.first)
        if cloth.pattern in ("hoops", "checks"):
            # A turned-up hem, or another colour from the knee down.
            start = 0.72 if cloth.pattern == "hoops" else 0.0
            hem = (0.029, 0.037, 0.048)[fit]
            width = 0.042 * wide + (hem - 0.042 * wide) * start + 0.001
            shapes += _limb(view, _lerp(knee, ankle, start), width, ankle, hem, cloth.second)
        shapes += _limb(view, hip, 0.060 * wide, knee, 0.043 * wide, cloth.first)
        if cloth.pattern == "panels" and view.depth((side * 1.0, 0.0, 0.0)) >= -0.2:
            a, b, c = (view((p[0] + side * 0.038, p[1], p[2])) for p in (hip, knee, ankle))
            shapes += [
                capsule(a, 0.011, b, 0.011, cloth.second),
                capsule(b, 0.011, c, 0.011, cloth.second),
            ]
    else:
        shapes += _limb(view, knee, 0.036 * wide, ankle, 0.024, look.skin)
        shapes += _limb(view, hip, 0.055 * wide, knee, 0.036 * wide, look.skin)
        if look.bottom == "shorts":
            radius = (0.048, 0.053, 0.060)[fit] * wide
            hem_at = _lerp(hip, knee, 0.86)
            shapes += _limb(view, hip, 0.060 * wide, hem_at, radius, cloth.first)
    return view.depth(_lerp(knee, ankle, 0.5)), shapes


def _arm(look: Look, view: _View, step: int, side: int) -> tuple[float, list[Shape]]:
    """Return depth and shapes of one arm."""
    upper = -_swing(step, side)[0]
    shoulder = (side * 0.092 * look.build, 0.787, 0.0)
    elbow = _hang(shoulder, shoulder[0] + side * 0.027, 0.155, upper)
    wrist = _hang(elbow, elbow[0] + side * 0.004, 0.14, upper + 14 + max(0, upper) // 2)
    hand = _lerp(elbow, wrist, 1.14)
    wide = 0.5 + 0.5 * look.build
    sleeve, skin = look.sleeves, look.skin
    shapes = _handbag(look, view, hand) if look.bag == "handbag" and side == 1 else []
    shapes.append(ellipse(*view(hand), 0.019, 0.027, shade(skin, 92)))
    thick = (0.0, 0.003, 0.006)[look.fit] + (0.005 if look.top in ("coat", "jacket") else 0.0)
    if look.top in ("long", "jacket", "coat"):
        shapes += _limb(view, elbow, 0.029 * wide + thick, wrist, 0.023 + thick, sleeve)
        shapes += _limb(view, shoulder, 0.036 * wide + thick, elbow, 0.031 + thick, sleeve)
    else:
        shapes += _limb(view, elbow, 0.027 * wide, wrist, 0.019, skin)
        shapes += _limb(view, shoulder, 0.036 * wide, elbow, 0.028 * wide, skin)
        if look.top == "tee":
            cuff = _lerp(shoulder, elbow, 0.62)
            shapes += _limb(view, shoulder, 0.037 * wide, cuff, 0.037 * wide + thick, sleeve)
    return view.depth(_lerp(shoulder, wrist, 0.6)), shapes


def _barrel(view: _View, rows: list[tuple[float, float, float]], cloth: Cloth) -> Shape:
    """Return an upright garment from its cross-sections, top first: height and two half widths."""
    wide = [(-y, view.breadth(lateral, forward)) for y, lateral, forward in rows]
    top, bottom = wide[0][0], wide[-1][0]
    left = [(-half, y) for y, half in wide]
    right = [(half, y) for y, half in reversed(wide)]
    drape = Draped(cloth, max(half for _, half in wide), top, bottom, view.degrees)
    return polygon([*left, (0.0, bottom + 0.012), *right], drape)


def _garments(look: Look, view: _View, step: int) -> list[Shape]:
    b, waist = look.build, look.waist
    hips = 0.042 + 0.46
    stride = abs(sine(step)) * 0.05
    puff = 0.010 if look.top in ("jacket", "coat") else 0.0
    belt = [
        (0.61, 0.084 * b * waist, 0.054 * b),
        (0.55, 0.092 * b, 0.060 * b),
        (hips - 0.03, 0.100 * b, 0.064 * b),
    ]
    lower = replace(look.lower, pattern="plain")
    if look.bottom in ("skirt", "long_skirt"):
        lower = look.lower
        hem = 0.30 if look.bottom == "skirt" else 0.14
        flare = 0.03 + 0.02 * look.fit
        belt += [
            (0.42, 0.104 * b + flare / 2, 0.070 * b + flare / 2),
            (hem, 0.102 * b + flare, 0.070 * b + flare + stride),
        ]
    else:
        belt.append((hips - 0.055, 0.085 * b, 0.050 * b))
    rows = [
        (0.842, 0.034, 0.032),
        (0.826, 0.078 * b, 0.042),
        (0.800, (0.108 if look.top != "vest" else 0.094) * b + puff, 0.052 * b + puff),
        (0.735, 0.100 * b + puff, 0.064 * b + puff),
        (0.620, 0.084 * b * waist + puff, 0.058 * b + puff),
        (0.555, 0.094 * b + puff, 0.062 * b + puff),
    ]
    if look.top == "coat":
        rows += [(0.48, 0.106 * b + puff, 0.072 * b), (0.30, 0.116 * b, 0.080 * b + stride)]
    elif look.top in ("tee", "long", "jacket"):
        rows.append((0.505, 0.100 * b + puff, 0.066 * b + puff))
    shapes = [_barrel(view, belt, lower), _barrel(view, rows, look.upper)]
    if look.top in ("jacket", "coat") and view.facing > 0.2:
        x, y = view((0.0, rows[-1][0] + 0.01, 0.07))
        dark = shade(look.upper.first, 58)
        shapes.append(capsule(view((0.0, 0.83, 0.05)), 0.004, (x, y - 0.01), 0.004, dark))
    return shapes


def _head(look: Look, view: _View) -> list[Shape]:
    x, y = view(_HEAD)
    bald = look.hair_style == "bald"
    hair = shade(look.skin, 94) if bald else look.hair
    grow = {"curly": 0.014, "bob": 0.006, "long": 0.005, "bald": 0.0}.get(look.hair_style, 0.002)
    shapes = [
        ellipse(x, y - grow / 2, 0.049 + grow, 0.064 + grow, shade(hair, 80)),
        ellipse(x - 0.006, y - grow / 2 - 0.004, 0.041 + grow, 0.056 + grow, hair),
    ]
    if view.facing >= -0.35:
        shapes += _face(look, view)
    elif look.hair_style in _BARE_NECK:
        shapes.append(ellipse(x, y + 0.046, 0.030, 0.018, shade(look.skin, 88)))
    if look.hair_style == "bun":
        shapes.append(ellipse(*view((0.0, 0.972, -0.04)), 0.025, 0.023, shade(look.hair, 86)))
    return shapes


def _face(look: Look, view: _View) -> list[Shape]:
    """Skin, nose, ear, beard, eyes, brows, mouth and glasses, as far as the turn shows them."""
    x, y = view(_HEAD)
    turned, skin = view.turned, look.skin
    centre = x + 0.021 * turned
    half = 0.041 * (0.62 + 0.38 * abs(view.facing))
    drop = 0.006 if look.hair_style == "bald" else 0.016
    shapes = [
        ellipse(centre, y + drop, half, 0.051, shade(skin, 84)),
        ellipse(centre - 0.004, y + drop - 0.002, half * 0.88, 0.046, skin),
    ]
    if abs(turned) > 0.4:
        nose = math.copysign(1.0, turned)
        shapes.append(ellipse(centre + nose * half, y + 0.016, 0.008, 0.009, skin))
        if look.hair_style in _BARE_NECK:
            shapes.append(ellipse(x - nose * 0.012, y + 0.012, 0.009, 0.014, shade(skin, 86)))
    if look.beard:
        shapes.append(ellipse(centre, y + 0.047, half * 0.8, 0.021, shade(look.hair, 90)))
    dark = (34, 30, 30)
    for side in (-1, 1):
        eye = (side * 0.018, 0.918, 0.045)
        if view.depth(eye) >= 0.012:
            x, y = view(eye)
            if look.glasses:
                shapes.append(ellipse(x, y, 0.014, 0.011, dark))
                shapes.append(ellipse(x, y, 0.010, 0.007, (170, 150, 130)))
            shapes.append(ellipse(x, y, 0.0055, 0.005, dark))
            shapes.append(ellipse(x, y - 0.014, 0.011, 0.0035, shade(look.hair, 70)))
    mouth = (0.0, 0.884, 0.044)
    if view.depth(mouth) > 0.012:
        width = 0.012 * max(0.3, view.facing)
        shapes.append(ellipse(*view(mouth), width, 0.004, (70, 62, 132)))
    return shapes


def _hanging_hair(look: Look, view: _View) -> tuple[list[Shape], list[Shape]]:
    """Return hair below the chin: behind the body if the person faces the camera, else over it."""
    x, y = view((0.0, 0.90, -0.022))
    if look.hair_style == "long":
        half, end = view.breadth(0.062, 0.046), y + 0.155
    elif look.hair_style == "bob":
        half, end = view.breadth(0.060, 0.050), y + 0.06
    elif look.hair_style == "ponytail":
        x, y = view((0.0, 0.93, -0.055))
        half, end = 0.019, y + 0.13
    else:
        return [], []
    rows = ((0.8, y - 0.01), (1.0, y + (end - y) * 0.6), (0.7, end))
    outline = [(x - half * k, v) for k, v in rows] + [(x + half * k, v) for k, v in reversed(rows)]
    inner = [(x - 0.006 + (px - x) * 0.7, y + (py - y) * 0.95) for px, py in outline]
    shapes = [polygon(outline, shade(look.hair, 78)), polygon(inner, look.hair)]
    return (shapes, []) if view.facing > -0.2 else ([], shapes)


def _scarf(look: Look, view: _View) -> list[Shape]:
    if look.scarf is None:
        return []
    x, y = view((0.0, 0.84, 0.0))
    shapes = [
        ellipse(x, y, 0.054, 0.026, shade(look.scarf, 74)),
        ellipse(x - 0.004, y - 0.004, 0.046, 0.018, look.scarf),
    ]
    if view.facing > 0:
        start, end = view((0.02, 0.83, 0.05)), view((0.03, 0.70, 0.07))
        shapes.append(capsule(start, 0.017, end, 0.020, look.scarf))
    return shapes


def _hat(look: Look, view: _View) -> list[Shape]:
    if look.hat == "none":
        return []
    x, y = view(_HEAD)
    colour, dark = look.hat_colour, shade(look.hat_colour, 72)
    crown = ((x + 0.054 * c, y - 0.018 + 0.056 * s) for c, s in arc(180, 361, 20))
    shapes = [polygon(crown, colour)]
    if look.hat == "beanie":
        shapes.append(capsule((x - 0.046, y - 0.020), 0.012, (x + 0.046, y - 0.020), 0.012, dark))
    elif look.hat == "brim":
        shapes.append(ellipse(x, y - 0.018, 0.088, 0.016, dark))
        shapes.append(ellipse(x, y - 0.040, 0.050, 0.034, colour))
    elif view.facing > -0.35:
        peak = (x + 0.052 * view.turned, y - 0.020 + 0.012 * view.facing)
        shapes.append(ellipse(*peak, 0.034 + 0.012 * view.facing, 0.012, dark))
    return shapes


def _bag(look: Look, view: _View) -> tuple[list[Shape], list[Shape]]:
    """Return the shapes of a backpack or satchel behind and in front of the torso."""
    colour, dark, b = look.bag_colour, shade(look.bag_colour, 66), look.build
    if look.bag == "backpack":
        x, y = view((0.0, 0.70, -0.095))
        half = view.breadth(0.082 * b, 0.052)
        pack = [
            _rounded(x, y, half, 0.115, dark),
            _rounded(x - 0.006, y - 0.006, half * 0.86, 0.100, colour),
            _rounded(x, y + 0.048, half * 0.62, 0.040, shade(colour, 84)),
        ]
        if view.facing < -0.1:
            return [], pack
        straps = [
            capsule(view((side * 0.055, 0.815, 0.03)), 0.012, view(end), 0.010, dark)
            for side in (-1, 1)
            if view.depth(end := (side * 0.066, 0.66, 0.066)) > 0.0
        ]
        return pack, straps
    if look.bag == "satchel":
        front = (0.066 if view.facing >= 0 else -0.066) * 0.6
        shoulder, hip = view((-0.07 * b, 0.81, front)), view((0.095 * b, 0.56, front))
        strap = capsule(shoulder, 0.009, hip, 0.009, dark)
        at = (0.125 * b, 0.50, 0.0)
        x, y = view(at)
        half = view.breadth(0.040, 0.085)
        bag = [
            _rounded(x, y, half, 0.062, dark),
            _rounded(x, y - 0.008, half * 0.9, 0.046, colour),
            _rounded(x, y + 0.006, half * 0.3, 0.012, shade(colour, 130)),
        ]
        return (bag, [strap]) if view.depth(at) < 0 else ([], [strap, *bag])
    return [], []


def _handbag(look: Look, view: _View, hand: _Point) -> list[Shape]:
    x, y = view((hand[0], hand[1] - 0.09, hand[2]))
    half = view.breadth(0.030, 0.075)
    dark = shade(look.bag_colour, 66)
    return [
        capsule(view(hand), 0.006, (x - half * 0.6, y - 0.03), 0.006, dark),
        capsule(view(hand), 0.006, (x + half * 0.6, y - 0.03), 0.006, dark),
        _rounded(x, y, half, 0.052, dark),
        _rounded(x - 0.004, y - 0.004, half * 0.88, 0.042, look.bag_colour),
    ]


def _rounded(x: float, y: float, half: float, height: float, paint: Colour) -> Shape:
    """Return a box with round corners about (x, y)."""
    r = min(half, height) * 0.45
    left, right, top, bottom = x - half + r, x + half - r, y - height + r, y + height - r
    corners = ((180, left, top), (270, right, top), (0, right, bottom), (90, left, bottom))
    rim = [(x + r * c, y + r * s) for a, x, y in corners for c, s in arc(a, a + 91, 30)]
    return polygon(rim, paint)
