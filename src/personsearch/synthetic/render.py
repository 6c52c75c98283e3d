"""Draws one planned scene as its camera takes it, and measures which people are visible.

Worker processes run this file, so it avoids heavy imports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from personsearch.synthetic.drawing import (
    Picture,
    Shape,
    Sprite,
    draw,
    extent,
    fade,
    generator,
    overlay,
)
from personsearch.synthetic.layouts import Box, Placement, ScenePlan
from personsearch.synthetic.object_classes import OBJECT_CLASSES
from personsearch.synthetic.optics import Camera, expose

MIN_VISIBLE = 0.35
"""Smallest visible share of an annotated person."""
MIN_SIDES = (12, 24)
"""Smallest width and height of an annotated person, in pixels."""
JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Seen:
    """One annotated person: identity, box x1, y1, x2, y2, and visible share."""

    id: int
    box: Box
    visible: float


@dataclass(frozen=True, slots=True)
class Photograph:
    """A drawn scene: the bytes of its JPEG file, and its annotated people."""

    name: str
    jpeg: bytes
    people: tuple[Seen, ...]


@lru_cache(maxsize=16)
def _backdrop(object_class: str, camera: Camera) -> Picture:
    return OBJECT_CLASSES[object_class].backdrop(camera)


def take(plan: ScenePlan) -> Photograph:
    """Draw the scene as its camera takes it, and annotate the visible people."""
    cv2.setNumThreads(0)
    width, height = plan.camera.size
    shown = OBJECT_CLASSES[plan.object_class]
    picture = _backdrop(plan.object_class, plan.camera).copy()
    # Owner of each pixel: index of a person + 1, or 0 for the background and objects.
    owner = np.zeros((height, width), dtype=np.uint16)
    things: list[tuple[float, int, Sprite]] = []
    for index, person in enumerate(plan.people, start=1):
        shapes = shown.shapes(person.look, person.view, person.step)
        scale, at = _placed(shapes, person)
        things.append((person.foot, index, fade(draw(shapes, scale, at), shown.opacity)))
        ground = draw(shown.under(person), (person.unit, person.unit), (person.x, person.foot))
        things.append((person.foot, 0, fade(ground, shown.under_opacity)))
    for prop in plan.props:
        shapes = shown.prop(prop.kind, prop.seed)
        things.append((prop.foot, 0, draw(shapes, (prop.unit, prop.unit), (prop.x, prop.foot))))
    for _, index, sprite in sorted(things, key=lambda thing: thing[:2]):
        touched = overlay(picture, sprite)
        if touched is not None:
            rows, columns, coverage = touched
            owner[rows, columns][coverage > 127] = index
    counts = np.bincount(owner.ravel(), minlength=len(plan.people) + 1)
    seen = []
    for _, index, sprite in things:
        if index > 0:
            noted = _note(plan.people[index - 1], sprite, int(counts[index]), (width, height))
            if noted is not None:
                seen.append(noted)
    rng = generator(*plan.seed, 41)
    taken = expose(picture, plan.camera, rng)
    _, data = cv2.imencode(".jpg", taken, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return Photograph(plan.name, data.tobytes(), tuple(seen))


def _placed(
    shapes: Sequence[Shape], person: Placement
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return pixels per unit along x and y, and the position of the shapes' origin."""
    if person.fill is None:
        return (person.unit, person.unit), (person.x, person.foot)
    x1, y1, x2, y2 = person.fill
    left, top, right, bottom = extent(shapes)
    scale = ((x2 - x1) / (right - left), (y2 - y1) / (bottom - top))
    return scale, (x1 - left * scale[0], y1 - top * scale[1])


def _note(person: Placement, sprite: Sprite, visible: int, size: tuple[int, int]) -> Seen | None:
    solid = sprite.pixels[..., 3] > 127
    total = int(np.count_nonzero(solid))
    if person.box is not None:
        return Seen(person.id, person.box, visible / max(1, total))
    if total == 0 or visible < MIN_VISIBLE * total:
        return None
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    box = (
        max(0.0, float(sprite.left + columns[0])),
        max(0.0, float(sprite.top + rows[0])),
        min(float(size[0]), float(sprite.left + columns[-1] + 1)),
        min(float(size[1]), float(sprite.top + rows[-1] + 1)),
    )
    if box[2] - box[0] < MIN_SIDES[0] or box[3] - box[1] < MIN_SIDES[1]:
        return None
    return Seen(person.id, box, visible / total)
