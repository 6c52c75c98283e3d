"""The object classes of the synthetic benchmark: people in streets, or tattoos on skin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.synthetic import layouts, people, streets, tattoos, wardrobe
from personsearch.synthetic.drawing import Picture, Shape
from personsearch.synthetic.layouts import Placement, Prop
from personsearch.synthetic.optics import Camera


@dataclass(frozen=True)
class ObjectClass:
    """Appearance and surroundings of one object class.

    Attributes:
        make_looks: makes looks in groups that look alike; see `wardrobe.make_looks`.
        random_look: makes the look of an unlabelled object.
        shapes: draws a look at a view angle and step, as shapes on (0, 0), one unit tall.
        opacity: opacity of those shapes, in 255ths.
        under: draws what is on the ground below a placed object.
        under_opacity: opacity of that, in 255ths.
        places: kinds of scenery of the cameras.
        backdrop: draws the empty scenery.
        stand: places identities and looks on a camera's ground.
        furnish: makes objects that hide some of them.
        prop: draws such an object from its kind and seed.
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
    return people.shadow()


def _limb(placement: Placement) -> list[Shape]:
    return tattoos.limb(int(placement.x) * 4096 + int(placement.foot))


OBJECT_CLASSES = {
    "person": ObjectClass(
        make_looks=wardrobe.make_looks,
        random_look=wardrobe.random_look,
        shapes=people.person,
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
"""The object classes by name, as in `Dataset.object_class`."""
