"""The object classes of the synthetic benchmark: people in streets, or tattoos on skin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from personsearch.synthetic import layouts, people, streets, tattoos, wardrobe
from personsearch.synthetic.drawing import Picture, Shape
from personsearch.synthetic.layouts import Placement, Prop
from personsearch.synthetic.optics import Camera
from personsearch.synthetic.randomness import Random


@dataclass(frozen=True)
class ObjectClass:
    """Appearance and surroundings of one object class; opacities are in 255ths."""

    random_look: Callable[[Random], Any]  # of an unlabelled object
    look_group: Callable[[Sequence[int], Random], Sequence[Any]]  # looks that are alike
    # Draws a look at a view angle and step, as shapes on (0, 0), one unit tall.
    shapes: Callable[[Any, int, int], list[Shape]]
    opacity: int
    under: Callable[[Placement], list[Shape]]  # drawn on the ground below
    under_opacity: int
    places: Sequence[str]  # kinds of scenery
    backdrop: Callable[[Camera], Picture]  # the empty scenery
    # Places identities and looks on a camera's ground, and objects that hide some of them.
    stand: Callable[[Camera, Sequence[tuple[int, Any]], Random], list[Placement]]
    furnish: Callable[[Camera, Sequence[Placement], Random], list[Prop]]
    prop: Callable[[str, int], list[Shape]]  # draws such an object from its kind and seed

    def make_looks(self, count: int, alike: Sequence[int], rng: Random) -> list[Any]:
        """Return `count` looks, many in groups that look alike.

        Each group draws its number of lookalikes from `alike`.
        """
        looks: list[Any] = []
        while len(looks) < count:
            looks += self.look_group(alike, rng)
        return looks[:count]


OBJECT_CLASSES = {
    "person": ObjectClass(
        random_look=wardrobe.random_look,
        look_group=wardrobe.look_group,
        shapes=people.person,
        opacity=255,
        under=lambda _: people.shadow(),
        under_opacity=90,
        places=streets.PLACES,
        backdrop=streets.backdrop,
        stand=layouts.stand,
        furnish=layouts.furnish,
        prop=streets.prop,
    ),
    "tattoo": ObjectClass(
        random_look=tattoos.random_tattoo,
        look_group=tattoos.tattoo_group,
        shapes=tattoos.tattoo,
        opacity=222,
        under=lambda placed: tattoos.limb(int(placed.x) * 4096 + int(placed.foot)),
        under_opacity=255,
        places=tattoos.PLACES,
        backdrop=tattoos.backdrop,
        stand=layouts.spread,
        furnish=layouts.cover,
        prop=tattoos.strap,
    ),
}
"""The object classes by name, as in `Dataset.object_class`."""
