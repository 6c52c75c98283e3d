"""personsearch: find a person in whole pictures.

Names are imported when they are first used, so that `import personsearch` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personsearch.datasets import open_dataset as open_dataset
    from personsearch.datasets.dataset import Dataset as Dataset
    from personsearch.errors import AnnotationError as AnnotationError
    from personsearch.errors import CheckpointError as CheckpointError
    from personsearch.errors import DataError as DataError
    from personsearch.errors import EvaluationError as EvaluationError
    from personsearch.errors import GoneError as GoneError
    from personsearch.errors import ModelError as ModelError
    from personsearch.errors import NonFiniteLossError as NonFiniteLossError
    from personsearch.errors import OutOfMemoryError as OutOfMemoryError
    from personsearch.errors import PersonSearchError as PersonSearchError
    from personsearch.errors import PictureError as PictureError
    from personsearch.errors import RecipeError as RecipeError
    from personsearch.errors import StoreError as StoreError
    from personsearch.errors import TrainingError as TrainingError
    from personsearch.evaluation.detection import evaluate_detection as evaluate_detection
    from personsearch.evaluation.search import evaluate_search as evaluate_search
    from personsearch.loading import load as load
    from personsearch.search.archive import Archive as Archive
    from personsearch.search.archive import open_archive as open
    from personsearch.search.people_search import Match as Match
    from personsearch.store import Filters as Filters
    from personsearch.systems.base import PersonSearchModel as PersonSearchModel
    from personsearch.systems.base import Target as Target
    from personsearch.training.loop import Trainer as Trainer
    from personsearch.training.recipe import Recipe as Recipe
    from personsearch.training.recipe import read_recipe as read_recipe
    from personsearch.types import UNLABELLED as UNLABELLED
    from personsearch.types import Detections as Detections
    from personsearch.types import Query as Query
    from personsearch.types import Scene as Scene
    from personsearch.types import SearchProtocol as SearchProtocol

_MODULES = {
    "AnnotationError": "errors",
    "Archive": "search.archive",
    "CheckpointError": "errors",
    "DataError": "errors",
    "Dataset": "datasets.dataset",
    "Detections": "types",
    "EvaluationError": "errors",
    "Filters": "store",
    "GoneError": "errors",
    "Match": "search.people_search",
    "ModelError": "errors",
    "NonFiniteLossError": "errors",
    "OutOfMemoryError": "errors",
    "PersonSearchError": "errors",
    "PersonSearchModel": "systems.base",
    "PictureError": "errors",
    "Query": "types",
    "Recipe": "training.recipe",
    "RecipeError": "errors",
    "Scene": "types",
    "SearchProtocol": "types",
    "StoreError": "errors",
    "Target": "systems.base",
    "Trainer": "training.loop",
    "TrainingError": "errors",
    "UNLABELLED": "types",
    "evaluate_detection": "evaluation.detection",
    "evaluate_search": "evaluation.search",
    "load": "loading",
    "open": "search.archive",
    "open_dataset": "datasets",
    "read_recipe": "training.recipe",
}

_RENAMED = {"open": "open_archive"}

__all__ = [
    "UNLABELLED",
    "AnnotationError",
    "Archive",
    "CheckpointError",
    "DataError",
    "Dataset",
    "Detections",
    "EvaluationError",
    "Filters",
    "GoneError",
    "Match",
    "ModelError",
    "NonFiniteLossError",
    "OutOfMemoryError",
    "PersonSearchError",
    "PersonSearchModel",
    "PictureError",
    "Query",
    "Recipe",
    "RecipeError",
    "Scene",
    "SearchProtocol",
    "StoreError",
    "Target",
    "Trainer",
    "TrainingError",
    "evaluate_detection",
    "evaluate_search",
    "load",
    "open",
    "open_dataset",
    "read_recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'personsearch' has no attribute {name!r}")
    return getattr(import_module(f"personsearch.{_MODULES[name]}"), _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted(__all__)
