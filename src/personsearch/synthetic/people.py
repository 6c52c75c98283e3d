"""Draws one walking person from a look, a view angle and a step.

The body is a small 3D skeleton, x to the person's left, y up, z forward, in units of the person's
height with the feet at zero. It is turned and drawn from back to front, so that all views agree: a
backpack is hidden in front, a badge behind.
"""

import math
from dataclasses import dataclass, replace

from personsearch.synthetic.drawing import (
    Colour,
    Shape,
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

_Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Camera:
    view: int

    def __call__(self, point: _Point) -> tuple[float, float]:
        x, y, z = point
        return x * cosine(self.view) + z * sine(self.view), -y + self.depth(point) * _PITCH

    def depth(self, point: _Point) -> float:
        x, _, z = point
        return z * cosine(self.view) - x * sine(self.view)

    def breadth(self, lateral: float, forward: float) -> float:
        """Return half the visible width of an upright elliptic cylinder."""
        a, b = lateral * cosine(self.view), forward * sine(self.view)
        return math.sqrt(a * a + b * b)

    @property
    def facing(self) -> float:
        """1 if the person looks at the camera, -1 if away from it."""
        return cosine(self.view)


def person(look: Look, view: int, step: int) -> list[Shape]:
    """Return the person as shapes from back to front, feet at (0, 0), crown near (0, -1).

    Args:
        look: appearance; the caller scales by `look.stature`.
        view: degrees; 0 faces the camera, 90 walks to the right of the picture, 180 away.
        step: degrees of the walking cycle.
    """
    camera = _Camera(view)
    legs = sorted((_leg(look, camera, step, side) for side in (-1, 1)), key=lambda part: part[0])
    arms = sorted((_arm(look, camera, step, side) for side in (-1, 1)), key=lambda part: part[0])
    shapes: list[Shape] = []
    for _, leg in legs:
        shapes += leg
    shapes += [shape for depth, arm in arms if depth < 0 for shape in arm]
    behind, before = _bag(look, camera)
    hair_behind, hair_before = _hanging_hair(look, camera)
    shapes += behind + hair_behind + _neck(look, camera) + _garments(look, camera, step)
    shapes += before
    shapes += [shape for depth, arm in arms if depth >= 0 for shape in arm]
    shapes += _scarf(look, camera) + _head(look, camera) + hair_before + _hat(look, camera)
    return shapes


def shadow() -> list[Shape]:
    """Return the shadow at a person's feet, in the same units."""
    return [ellipse(0.03, -0.01, 0.20, 0.045, (0, 0, 0))]


def _limb(
    camera: _Camera, start: _Point, r1: float, end: _Point, r2: float, paint: Colour
) -> list[Shape]:
    a, b = camera(start), camera(end)
    light = ((a[0] - 0.22 * r1, a[1]), (b[0] - 0.22 * r2, b[1]))
    return [
        capsule(a, r1, b, r2, shade(paint, 76)),
        capsule(light[0], 0.74 * r1, light[1], 0.74 * r2, paint),
    ]


def _lerp(a: _Point, b: _Point, t: float) -> _Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


def _swing(step: int, side: int) -> tuple[int, int]:
    """Return degrees of a thigh forward and of its knee."""
    thigh = round(_SWING * sine(step) * side)
    knee = 6 + round(34 * max(0.0, cosine(step) * side))
    return thigh, knee


def _joints(look: Look, step: int, side: int) -> tuple[_Point, _Point, _Point]:
    def reach(thigh: int, knee: int) -> float:
        return 0.245 * cosine(thigh) + 0.215 * cosine(thigh - knee)

    thigh, knee = _swing(step, side)
    # The longer leg stands on the ground and sets the height of the hips.
    hips = 0.042 + max(reach(*_swing(step, 1)), reach(*_swing(step, -1)))
    x = side * 0.05 * look.build
    hip = (x, hips, 0.0)
    bend = (x * 0.95, hips - 0.245 * cosine(thigh), 0.245 * sine(thigh))
    ankle = (
        x * 0.9,
        bend[1] - 0.215 * cosine(thigh - knee),
        bend[2] + 0.215 * sine(thigh - knee),
    )
    return hip, bend, ankle


def _leg(look: Look, camera: _Camera, step: int, side: int) -> tuple[float, list[Shape]]:
    hip, knee, ankle = _joints(look, step, side)
    thigh, bend = _swing(step, side)
    pitch = max(-60, min(12, (thigh - bend) // 1 + 8 if bend > 20 else thigh // 2))
    toe = (
        ankle[0] + side * 0.012,
        ankle[1] - 0.024 + 0.085 * sine(pitch),
        ankle[2] + 0.085 * cosine(pitch),
    )
    heel = (ankle[0], ankle[1] - 0.02, ankle[2] - 0.018)
    wide = look.build
    shapes = [capsule(camera(heel), 0.023, camera(toe), 0.017, look.shoes)]
    a, b = camera(heel), camera(toe)
    shapes.append(
        capsule((a[0], a[1] + 0.014), 0.011, (b[0], b[1] + 0.009), 0.010, shade(look.shoes, 55))
    )
    if look.bottom == "trousers":
        colour = look.lower.first
        hem = (0.028, 0.036, 0.047)[look.fit]
        shapes += _limb(camera, knee, 0.042 * wide, ankle, hem, colour)
        if look.lower.pattern in ("hoops", "checks"):
            shapes += _trim(look, camera, (hip, knee, ankle), side)
        shapes += _limb(camera, hip, 0.060 * wide, knee, 0.043 * wide, colour)
        if look.lower.pattern == "panels":
            shapes += _trim(look, camera, (hip, knee, ankle), side)
    else:
        skin = look.skin
        shapes += _limb(camera, knee, 0.036 * wide, ankle, 0.024, skin)
        shapes += _limb(camera, hip, 0.055 * wide, knee, 0.036 * wide, skin)
        if look.bottom == "shorts":
            hem_at = _lerp(hip, knee, 0.86)
            radius = (0.048, 0.053, 0.060)[look.fit] * wide
            shapes += _limb(camera, hip, 0.060 * wide, hem_at, radius, look.lower.first)
    return camera.depth(_lerp(knee, ankle, 0.5)), shapes


def _trim(
    look: Look, camera: _Camera, joints: tuple[_Point, _Point, _Point], side: int
) -> list[Shape]:
    """Return the second colour of trousers, as visible in this view."""
    hip, knee, ankle = joints
    colour = look.lower.second
    if look.lower.pattern == "panels":
        if camera.depth((side * 1.0, 0.0, 0.0)) < -0.2:
            return []
        lift = side * 0.038
        points = [(p[0] + lift, p[1], p[2]) for p in (hip, knee, ankle)]
        a, b, c = (camera(point) for point in points)
        return [capsule(a, 0.011, b, 0.011, colour), capsule(b, 0.011, c, 0.011, colour)]
    # A turned-up hem, or another colour from the knee down.
    start = 0.72 if look.lower.pattern == "hoops" else 0.0
    hem = (0.029, 0.037, 0.048)[look.fit]
    knee_width = 0.042 * look.build
    width = knee_width + (hem - knee_width) * start + 0.001
    return _limb(camera, _lerp(knee, ankle, start), width, ankle, hem, colour)


def _arm(look: Look, camera: _Camera, step: int, side: int) -> tuple[float, list[Shape]]:
    thigh, _ = _swing(step, side)
    upper = -thigh
    bend = 14 + max(0, upper) // 2
    shoulder = (side * 0.092 * look.build, 0.787, 0.0)
    elbow = (
        shoulder[0] + side * 0.027,
        shoulder[1] - 0.155 * cosine(upper),
        0.155 * sine(upper),
    )
    wrist = (
        elbow[0] + side * 0.004,
        elbow[1] - 0.14 * cosine(upper + bend),
        elbow[2] + 0.14 * sine(upper + bend),
    )
    hand = _lerp(elbow, wrist, 1.14)
    wide = 0.5 + 0.5 * look.build
    sleeve, skin = look.sleeves, look.skin
    x, y = camera(hand)
    shapes = [ellipse(x, y, 0.019, 0.027, shade(skin, 92))]
    if look.bag == "handbag" and side == 1:
        shapes = _handbag(look, camera, hand) + shapes
    thick = (0.0, 0.003, 0.006)[look.fit] + (0.005 if look.top in ("coat", "jacket") else 0.0)
    if look.top in ("long", "jacket", "coat"):
        shapes += _limb(camera, elbow, 0.029 * wide + thick, wrist, 0.023 + thick, sleeve)
        shapes += _limb(camera, shoulder, 0.036 * wide + thick, elbow, 0.031 + thick, sleeve)
    else:
        shapes += _limb(camera, elbow, 0.027 * wide, wrist, 0.019, skin)
        shapes += _limb(camera, shoulder, 0.036 * wide, elbow, 0.028 * wide, skin)
        if look.top == "tee":
            cuff = _lerp(shoulder, elbow, 0.62)
            shapes += _limb(camera, shoulder, 0.037 * wide, cuff, 0.037 * wide + thick, sleeve)
    return camera.depth(_lerp(shoulder, wrist, 0.6)), shapes


_Rows = list[tuple[float, float, float]]  # height, lateral and forward half width


def _barrel(look: Look, camera: _Camera, rows: _Rows, cloth: Cloth, sway: float = 0.0) -> Shape:
    """Return an upright garment from its cross-sections, top first."""
    wide = [(y, camera.breadth(a, b)) for y, a, b in rows]
    left = [(-half, -y) for y, half in wide]
    right = [(half, -y) for y, half in reversed(wide)]
    drape = Draped(
        cloth=cloth,
        centre=0.0,
        half_width=max(half for _, half in wide),
        top=-rows[0][0],
        bottom=-rows[-1][0],
        view=camera.view,
    )
    hem = [(sway, -rows[-1][0] + 0.012)]
    return polygon(left + hem + right, drape)


def _garments(look: Look, camera: _Camera, step: int) -> list[Shape]:
    b, waist = look.build, look.waist
    hips = 0.042 + 0.46
    stride = abs(sine(step)) * 0.05
    puff = 0.010 if look.top in ("jacket", "coat") else 0.0
    shapes = []
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
    shapes.append(_barrel(look, camera, belt, lower))
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
    shapes.append(_barrel(look, camera, rows, look.upper))
    if look.top in ("jacket", "coat") and camera.facing > 0.2:
        dark = shade(look.upper.first, 58)
        zip_top, zip_end = camera((0.0, 0.83, 0.05)), camera((0.0, rows[-1][0] + 0.01, 0.07))
        shapes.append(capsule(zip_top, 0.004, (zip_end[0], zip_end[1] - 0.01), 0.004, dark))
    return shapes


def _neck(look: Look, camera: _Camera) -> list[Shape]:
    start, end = camera((0.0, 0.815, 0.0)), camera((0.0, 0.88, 0.004))
    return [capsule(start, 0.036, end, 0.029, shade(look.skin, 78))]


def _head(look: Look, camera: _Camera) -> list[Shape]:
    x, y = camera(_HEAD)
    bald = look.hair_style == "bald"
    hair = shade(look.skin, 94) if bald else look.hair
    grow = {"curly": 0.014, "bob": 0.006, "long": 0.005}.get(look.hair_style, 0.002)
    grow = 0.0 if bald else grow
    shapes = [
        ellipse(x, y - grow / 2, 0.049 + grow, 0.064 + grow, shade(hair, 80)),
        ellipse(x - 0.006, y - grow / 2 - 0.004, 0.041 + grow, 0.056 + grow, hair),
    ]
    facing = camera.facing
    if facing < -0.35:
        if bald or look.hair_style in ("short", "bun", "ponytail"):
            shapes.append(ellipse(x, y + 0.046, 0.030, 0.018, shade(look.skin, 88)))
        return shapes + _knot(look, camera)
    turned = sine(camera.view)
    centre = x + 0.021 * turned
    half = 0.041 * (0.62 + 0.38 * abs(facing))
    drop = 0.016 if not bald else 0.006
    shapes.append(ellipse(centre, y + drop, half, 0.051, shade(look.skin, 84)))
    shapes.append(ellipse(centre - 0.004, y + drop - 0.002, half * 0.88, 0.046, look.skin))
    if abs(turned) > 0.4:
        nose = math.copysign(1.0, turned)
        shapes.append(ellipse(centre + nose * half, y + 0.016, 0.008, 0.009, look.skin))
        if look.hair_style in ("short", "bald", "bun", "ponytail"):
            shapes.append(ellipse(x - nose * 0.012, y + 0.012, 0.009, 0.014, shade(look.skin, 86)))
    if look.beard:
        shapes.append(ellipse(centre, y + 0.047, half * 0.8, 0.021, shade(look.hair, 90)))
    shapes += _features(look, camera)
    return shapes + _knot(look, camera)


def _features(look: Look, camera: _Camera) -> list[Shape]:
    """Return eyes, brows, mouth and glasses, as visible in this view."""
    shapes = []
    dark = (34, 30, 30)
    for side in (-1, 1):
        eye = (side * 0.018, 0.918, 0.045)
        if camera.depth(eye) < 0.012:
            continue
        x, y = camera(eye)
        if look.glasses:
            shapes.append(ellipse(x, y, 0.014, 0.011, dark))
            shapes.append(ellipse(x, y, 0.010, 0.007, (170, 150, 130)))
        shapes.append(ellipse(x, y, 0.0055, 0.005, dark))
        shapes.append(ellipse(x, y - 0.014, 0.011, 0.0035, shade(look.hair, 70)))
    mouth = (0.0, 0.884, 0.044)
    if camera.depth(mouth) > 0.012:
        x, y = camera(mouth)
        shapes.append(ellipse(x, y, 0.012 * max(0.3, camera.facing), 0.004, (70, 62, 132)))
    return shapes


def _knot(look: Look, camera: _Camera) -> list[Shape]:
    if look.hair_style == "bun":
        x, y = camera((0.0, 0.972, -0.04))
        return [ellipse(x, y, 0.025, 0.023, shade(look.hair, 86))]
    return []


def _hanging_hair(look: Look, camera: _Camera) -> tuple[list[Shape], list[Shape]]:
    """Hair below the chin: behind the body when the person faces us, else over it."""
    x, y = camera((0.0, 0.90, -0.022))
    colour = look.hair
    if look.hair_style == "long":
        half, end = camera.breadth(0.062, 0.046), y + 0.155
    elif look.hair_style == "bob":
        half, end = camera.breadth(0.060, 0.050), y + 0.06
    elif look.hair_style == "ponytail":
        x, y = camera((0.0, 0.93, -0.055))
        half, end = 0.019, y + 0.13
    else:
        return [], []
    outline = (
        (x - half * 0.8, y - 0.01),
        (x - half, y + (end - y) * 0.6),
        (x - half * 0.7, end),
        (x + half * 0.7, end),
        (x + half, y + (end - y) * 0.6),
        (x + half * 0.8, y - 0.01),
    )
    inner = [(x - 0.006 + (px - x) * 0.7, y + (py - y) * 0.95) for px, py in outline]
    shapes = [polygon(outline, shade(colour, 78)), polygon(inner, colour)]
    return (shapes, []) if camera.facing > -0.2 else ([], shapes)


def _scarf(look: Look, camera: _Camera) -> list[Shape]:
    if look.scarf is None:
        return []
    x, y = camera((0.0, 0.84, 0.0))
    shapes = [
        ellipse(x, y, 0.054, 0.026, shade(look.scarf, 74)),
        ellipse(x - 0.004, y - 0.004, 0.046, 0.018, look.scarf),
    ]
    if camera.facing > 0:
        end = camera((0.03, 0.70, 0.07))
        shapes.append(capsule(camera((0.02, 0.83, 0.05)), 0.017, end, 0.020, look.scarf))
    return shapes


def _hat(look: Look, camera: _Camera) -> list[Shape]:
    if look.hat == "none":
        return []
    x, y = camera(_HEAD)
    colour, dark = look.hat_colour, shade(look.hat_colour, 72)
    crown = [(x + 0.054 * cosine(a), y - 0.018 + 0.056 * sine(a)) for a in range(180, 361, 20)]
    shapes = [polygon(crown, colour)]
    if look.hat == "beanie":
        shapes.append(capsule((x - 0.046, y - 0.020), 0.012, (x + 0.046, y - 0.020), 0.012, dark))
    elif look.hat == "brim":
        shapes.append(ellipse(x, y - 0.018, 0.088, 0.016, dark))
        shapes.append(ellipse(x, y - 0.040, 0.050, 0.034, colour))
    elif camera.facing > -0.35:
        peak = (x + 0.052 * sine(camera.view), y - 0.020 + 0.012 * camera.facing)
        shapes.append(ellipse(*peak, 0.034 + 0.012 * camera.facing, 0.012, dark))
    return shapes


def _bag(look: Look, camera: _Camera) -> tuple[list[Shape], list[Shape]]:
    """Return the shapes of a backpack or satchel behind and in front of the torso."""
    colour, dark = look.bag_colour, shade(look.bag_colour, 66)
    if look.bag == "backpack":
        x, y = camera((0.0, 0.70, -0.095))
        half = camera.breadth(0.082 * look.build, 0.052)
        pack = [
            _rounded(x, y, half, 0.115, dark),
            _rounded(x - 0.006, y - 0.006, half * 0.86, 0.100, colour),
            _rounded(x, y + 0.048, half * 0.62, 0.040, shade(look.bag_colour, 84)),
        ]
        if camera.facing < -0.1:
            return [], pack
        straps = []
        for side in (-1, 1):
            top, end = (side * 0.055, 0.815, 0.03), (side * 0.066, 0.66, 0.066)
            if camera.depth(end) > 0.0:
                straps.append(capsule(camera(top), 0.012, camera(end), 0.010, dark))
        return pack, straps
    if look.bag == "satchel":
        front = 0.066 if camera.facing >= 0 else -0.066
        strap = capsule(
            camera((-0.07 * look.build, 0.81, front * 0.6)),
            0.009,
            camera((0.095 * look.build, 0.56, front * 0.6)),
            0.009,
            dark,
        )
        at = (0.125 * look.build, 0.50, 0.0)
        x, y = camera(at)
        half = camera.breadth(0.040, 0.085)
        bag = [
            _rounded(x, y, half, 0.062, dark),
            _rounded(x, y - 0.008, half * 0.9, 0.046, colour),
            _rounded(x, y + 0.006, half * 0.3, 0.012, shade(look.bag_colour, 130)),
        ]
        return (bag, [strap]) if camera.depth(at) < 0 else ([], [strap, *bag])
    return [], []


def _handbag(look: Look, camera: _Camera, hand: _Point) -> list[Shape]:
    x, y = camera((hand[0], hand[1] - 0.09, hand[2]))
    half = camera.breadth(0.030, 0.075)
    dark = shade(look.bag_colour, 66)
    top = camera(hand)
    return [
        capsule(top, 0.006, (x - half * 0.6, y - 0.03), 0.006, dark),
        capsule(top, 0.006, (x + half * 0.6, y - 0.03), 0.006, dark),
        _rounded(x, y, half, 0.052, dark),
        _rounded(x - 0.004, y - 0.004, half * 0.88, 0.042, look.bag_colour),
    ]


def _rounded(x: float, y: float, half: float, height: float, paint: Colour) -> Shape:
    """Return a box with round corners about (x, y)."""
    r = min(half, height) * 0.45
    corners = []
    for start, cx, cy in (
        (180, x - half + r, y - height + r),
        (270, x + half - r, y - height + r),
        (0, x + half - r, y + height - r),
        (90, x - half + r, y + height - r),
    ):
        corners += [(cx + r * cosine(a), cy + r * sine(a)) for a in range(start, start + 91, 30)]
    return polygon(corners, paint)
