"""The systems and stages that a recipe can name, and where their classes are."""

from dataclasses import dataclass

STAGES = {
    "crops": "personsearch.training.crop_stages:CropStage",
    "re-identification": "personsearch.training.reid_stage:ReidStage",
    "scenes": "personsearch.training.stages:SceneStage",
    "crop classifier": "personsearch.training.crop_classifier:CropClassifierStage",
    "detection": "personsearch.training.detection_stage:DetectionStage",
    "refinement": "personsearch.training.refine_stage:RefineStage",
    "features": "personsearch.training.feature_stage:FeatureStage",
}
"""Constructors of the stages by name (`Stage.name`)."""


@dataclass(frozen=True)
class System:
    """A system that a recipe can name."""

    constructor: str  # "module:Class"
    stages: tuple[str, ...] = ("crops", "scenes")  # in order; one with 0 iterations is skipped


SYSTEMS = {
    "oim": System("personsearch.systems.oim:OIM"),
    "xiao2016": System(
        "personsearch.systems.xiao2016:Xiao2016", ("crops", "crop classifier", "scenes")
    ),
    # trained networks of version 0.1; `renamed_keys` gives their recipes this name
    "xiao2016-0.1": System(
        "personsearch.systems.xiao2016_before:Xiao2016Before",
        ("crops", "crop classifier", "scenes"),
    ),
    "inet": System("personsearch.systems.inet:INet"),
    "dc-inet": System("personsearch.systems.dc_inet:DCINet"),
    "trident": System("personsearch.systems.trident:Trident"),
    "nae": System("personsearch.systems.nae:NAE"),
    "seqnet": System("personsearch.systems.seqnet:SeqNet"),
    "sequential": System("personsearch.systems.sequential:Sequential", ("detection", "features")),
    "rdlr": System(
        "personsearch.systems.rdlr:RDLR", ("detection", "re-identification", "refinement")
    ),
}
"""Systems by name."""
