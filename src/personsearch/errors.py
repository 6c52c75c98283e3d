"""The exceptions of personsearch.

    PersonSearchError
    ├── DataError (ValueError)          scenes, boxes or protocols that cannot be used
    │   ├── PictureError                a picture or video that cannot be read
    │   └── AnnotationError             an annotation file that cannot be read or contradicts itself
    ├── EvaluationError (ValueError)    detections or embeddings that cannot be evaluated
    ├── RecipeError (ValueError)        a recipe with a wrong key or value
    ├── ModelError                      a network, its weights or its description
    │   └── CheckpointError             a checkpoint folder that cannot be used
    ├── TrainingError                   training cannot continue
    │   └── NonFiniteLossError          a loss became NaN or infinite
    └── StoreError                      a store of people that cannot be read or written

A message states what was received, what was expected, and what to do. The command line prints it
as one line and exits with 1.
"""


class PersonSearchError(Exception):
    """Base class of all errors here."""


class DataError(PersonSearchError, ValueError):
    """Scenes, boxes, identities or protocols that cannot be used."""


class PictureError(DataError):
    """A picture or video that is missing, truncated, too large, or not a picture."""


class AnnotationError(DataError):
    """An annotation file that is missing, of another format, or contradicts itself."""


class EvaluationError(PersonSearchError, ValueError):
    """Detections, embeddings or settings that the evaluator cannot score."""


class RecipeError(PersonSearchError, ValueError):
    """A recipe with an unknown key, a wrong type or a contradiction."""


class ModelError(PersonSearchError):
    """A network, its weights or its description cannot be used."""


class CheckpointError(ModelError):
    """A checkpoint folder is incomplete, damaged, or of another system."""


class TrainingError(PersonSearchError):
    """Training cannot continue."""


class NonFiniteLossError(TrainingError):
    """A loss became NaN or infinite; the message names the step and the pictures."""


class StoreError(PersonSearchError):
    """A store is missing, damaged, of another model, or in use."""
