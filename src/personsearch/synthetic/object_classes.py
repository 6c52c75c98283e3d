"""What the synthetic benchmark can show: people in streets, or tattoos on skin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.synthetic import layouts, streets, tattoos, wardrobe
from personsearch.synthetic import people as figures
from personsearch.synthetic.drawing import Picture, Shape
from personsearch.synthetic.layouts import Placement, Prop
from personsearch.synthetic.optics import Camera


@dataclass(frozen=True)
class ObjectClass:
    """How one class of things looks and where it is found.

    Attributes:
        make_looks: so many looks, in groups that look alike; see `wardrobe.make_looks`.
        random_look: the look of something that nobody has named.
        shapes: a look at a view angle and a step as shapes that stand on (0, 0), one unit tall.
        opacity: of those shapes, in 255ths.
        under: what lies on the ground below a placed figure.
        under_opacity: of that, in 255ths.
        places: kinds of place that cameras look at.
        backdrop: the empty place.
        stand: identities and looks to places on a camera's ground.
        furnish: things that hide some of those.
        prop: kind and seed of such a thing to its shapes.
    """

    make_looks: Callable[[int, Sequence[int], np.random.Generator], Sequence[Any]]
    random_look: Callable[[np.random.Generator], Any]
    shapes: Callable[[Any, int, int], list[Shape]]
    opacity: int
    under: Callable[[Placement], list[Shape]]
    under_opacity: int
    places: tuple[str, ...]
    backdrop: Callable[[Camera], Picture]
    stand: Callable[[Camera, Sequence[tuple[int, Any]], np.random.Generator], list[Placement]]
    furnish: Callable[[Camera, Sequence[Placement], np.random.Generator], list[Prop]]
    prop: Callable[[str, int], list[Shape]]


def _shadow(placement: Placement) -> list[Shape]:
    return figures.shadow()


def _limb(placement: Placement) -> list[Shape]:
    return tattoos.limb(int(placement.x) * 4096 + int(placement.foot))


OBJECT_CLASSES = {
    "person": ObjectClass(
        make_looks=wardrobe.make_looks,
        random_look=wardrobe.random_look,
        shapes=figures.person,
        opacity=255,
        under=_shadow,
        under_opacity=90,
        places=streets.PLACES,
        backdrop=streets.backdrop,
        stand=layouts.stand,
        furnish=layouts.furnish,
        prop=streets.prop,
    ),
    "tattoo": ObjectClass(
        make_looks=tattoos.make_tattoos,
        random_look=tattoos.random_tattoo,
        shapes=tattoos.tattoo,
        opacity=222,
        under=_limb,
        under_opacity=255,
        places=tattoos.PLACES,
        backdrop=tattoos.backdrop,
        stand=layouts.spread,
        furnish=layouts.cover,
        prop=tattoos.strap,
    ),
}
"""By the name that `Dataset.object_class` gives."""
