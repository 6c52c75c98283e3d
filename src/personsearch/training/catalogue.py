"""The names that a recipe can use, and where what they name is."""

from dataclasses import dataclass

STAGES = {
    "crops": "personsearch.training.stages:CropStage",
    "scenes": "personsearch.training.stages:SceneStage",
    "classifier": "personsearch.training.crop_classifier:CropClassifierStage",
    "detection": "personsearch.training.detection_stage:DetectionStage",
    "refinement": "personsearch.training.refine_stage:RefineStage",
    "features": "personsearch.training.feature_stage:FeatureStage",
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


SYSTEMS = {
    "oim": System("personsearch.systems.oim:OIM"),
    "xiao2016": System("personsearch.systems.xiao2016:Xiao2016", ("crops", "classifier", "scenes")),
    "inet": System("personsearch.systems.inet:INet"),
    "dc-inet": System("personsearch.systems.dc_inet:DCINet"),
    "trident": System("personsearch.systems.trident:Trident"),
    "nae": System("personsearch.systems.nae:NAE"),
    "seqnet": System("personsearch.systems.seqnet:SeqNet"),
    "sequential": System("personsearch.systems.sequential:Sequential", ("detection", "features")),
    "rdlr": System("personsearch.systems.rdlr:RDLR", ("detection", "crops", "refinement")),
}
"""The systems that a recipe can name."""
