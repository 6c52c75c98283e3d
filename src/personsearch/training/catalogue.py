"""The names that a recipe can use, and where what they name is."""

from dataclasses import dataclass

STAGES = {
    "crops": "personsearch.training.stages:CropStage",
    "scenes": "personsearch.training.stages:SceneStage",
}
"""The stages that a system can be trained in, and where their constructors are."""


@dataclass(frozen=True)
class System:
    """A system that a recipe can name.

    Attributes:
        constructor: ``"module:Class"``.
        stages: keys of `STAGES`, in order; a stage without iterations is left out.
    """

    constructor: str
    stages: tuple[str, ...] = ("crops", "scenes")


SYSTEMS = {"oim": System("personsearch.systems.oim:OIM")}
"""The systems that a recipe can name."""
