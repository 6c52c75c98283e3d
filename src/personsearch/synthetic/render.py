"""Draws one planned scene as its camera takes it, and measures which people are visible.

Worker processes run this file, so it avoids heavy imports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat

import cv2
import numpy as np

from personsearch.synthetic.drawing import Picture, Shape, Sprite, draw, extent, fade, overlay
from personsearch.synthetic.layouts import Box, Placement, ScenePlan
from personsearch.synthetic.object_classes import OBJECT_CLASSES
from personsearch.synthetic.optics import Camera, expose
from personsearch.synthetic.randomness import Random

MIN_VISIBLE = 0.35
"""Smallest visible share of an annotated person."""
MIN_SIDES = (12, 24)
"""Smallest width and height of an annotated person, in pixels."""
JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated person: identity, box x1, y1, x2, y2, and the share of it that is visible."""

    id: int
    box: Box
    visible: float


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered scene: the bytes of its JPEG file, and the people annotated in it."""

    jpeg: bytes
    people: tuple[Annotation, ...]


@lru_cache(maxsize=16)
def _backdrop(object_class: str, camera: Camera) -> Picture:
    return OBJECT_CLASSES[object_class].backdrop(camera)


def render(plan: ScenePlan) -> Rendered:
    """Render the scene and annotate everyone who is visible."""
    cv2.setNumThreads(0)
    shown = OBJECT_CLASSES[plan.object_class]
    picture = _backdrop(plan.object_class, plan.camera).copy()
    # The person that each pixel shows, from 1; 0 for scenery and objects.
    owner = np.zeros(picture.shape[:2], dtype=np.uint16)
    things: list[tuple[float, int, Sprite]] = []
    for index, person in enumerate(plan.people, start=1):
        shapes = shown.shapes(person.look, person.view, person.step)
        things.append((person.foot, index, fade(_fill(shapes, person), shown.opacity)))
        ground = draw(shown.under(person), (person.unit, person.unit), (person.x, person.foot))
        things.append((person.foot, 0, fade(ground, shown.under_opacity)))
    sprites = [sprite for _, index, sprite in things if index]
    for prop in plan.props:
        shapes = shown.prop(prop.kind, prop.seed)
        things.append((prop.foot, 0, draw(shapes, (prop.unit, prop.unit), (prop.x, prop.foot))))
    for _, index, sprite in sorted(things, key=lambda thing: thing[:2]):
        touched = overlay(picture, sprite)
        if touched is not None:
            rows, columns, coverage = touched
            owner[rows, columns][coverage > 127] = index
    counts = np.bincount(owner.ravel(), minlength=len(plan.people) + 1)[1:].tolist()
    noted = map(_note, plan.people, sprites, counts, repeat(plan.camera.size))
    people = tuple(seen for seen in noted if seen is not None)
    taken = expose(picture, plan.camera, Random(*plan.seed, 41))
    _, data = cv2.imencode(".jpg", taken, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return Rendered(data.tobytes(), people)


def _fill(shapes: Sequence[Shape], person: Placement) -> Sprite:
    """Draw a person at their position, or so that they fill the given box."""
    if person.fill is None:
        return draw(shapes, (person.unit, person.unit), (person.x, person.foot))
    x1, y1, x2, y2 = person.fill
    left, top, right, bottom = extent(shapes)
    scale = ((x2 - x1) / (right - left), (y2 - y1) / (bottom - top))
    return draw(shapes, scale, (x1 - left * scale[0], y1 - top * scale[1]))


def _note(
    person: Placement, sprite: Sprite, visible: int, size: tuple[int, int]
) -> Annotation | None:
    """Annotate a person with `visible` pixels, or return None if they are too few."""
    solid = sprite.pixels[..., 3] > 127
    total = int(np.count_nonzero(solid))
    if person.box is not None:
        return Annotation(person.id, person.box, visible / max(1, total))
    if total == 0 or visible < MIN_VISIBLE * total:
        return None
    left, top, width, height = cv2.boundingRect(solid.view(np.uint8))
    x1, y1 = sprite.left + left, sprite.top + top
    x2, y2 = min(size[0], x1 + width), min(size[1], y1 + height)
    box = (max(0.0, float(x1)), max(0.0, float(y1)), float(x2), float(y2))
    if box[2] - box[0] < MIN_SIDES[0] or box[3] - box[1] < MIN_SIDES[1]:
        return None
    return Annotation(person.id, box, visible / total)
