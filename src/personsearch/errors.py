"""The exceptions of personsearch.

All are a PersonSearchError: DataError (PictureError, AnnotationError), EvaluationError,
RecipeError, ModelError (CheckpointError), TrainingError (NonFiniteLossError), OutOfMemoryError and
StoreError (GoneError).

A message states what was received, what was expected, and what to do. The command line prints it
as one line and exits with 1.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


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


class OutOfMemoryError(PersonSearchError):
    """A network does not fit into the memory of its device with these settings."""


@contextmanager
def naming_settings(settings: Mapping[str, object]) -> Iterator[None]:
    """Turn torch's errors for lack of memory into an `OutOfMemoryError` with settings to lower."""
    try:
        yield
    except RuntimeError as error:
        # Known by name: importing torch takes seconds. The processor's has no class of its own.
        if type(error).__name__ != "OutOfMemoryError" and "can't allocate memory" not in str(error):
            raise
        named = ", ".join(f"{name} ({value})" for name, value in settings.items())
        said = str(error).strip().splitlines()[0]
        raise OutOfMemoryError(f"out of memory: {said}; lower or change {named}") from None


class StoreError(PersonSearchError):
    """A store is missing, damaged, of another model, or in use."""


class GoneError(StoreError):
    """A person who is not in the store, or not any more."""
