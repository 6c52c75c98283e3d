"""The exception tree is the one that the module draws, and each class can be caught by its kind."""

import inspect

import pytest
import torch

import personsearch
from personsearch import errors

PARENTS = {
    "PersonSearchError": (Exception,),
    "DataError": (errors.PersonSearchError, ValueError),
    "PictureError": (errors.DataError,),
    "AnnotationError": (errors.DataError,),
    "EvaluationError": (errors.PersonSearchError, ValueError),
    "RecipeError": (errors.PersonSearchError, ValueError),
    "ModelError": (errors.PersonSearchError,),
    "CheckpointError": (errors.ModelError,),
    "TrainingError": (errors.PersonSearchError,),
    "NonFiniteLossError": (errors.TrainingError,),
    "OutOfMemoryError": (errors.PersonSearchError,),
    "StoreError": (errors.PersonSearchError,),
    "GoneError": (errors.StoreError,),
}


def _classes() -> dict[str, type]:
    return {
        name: value
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if value.__module__ == errors.__name__
    }


def test_the_tree_has_these_classes_and_no_other() -> None:
    assert _classes().keys() == PARENTS.keys()


@pytest.mark.parametrize("name", PARENTS)
def test_each_class_hangs_where_it_is_drawn(name: str) -> None:
    assert _classes()[name].__bases__ == PARENTS[name]


@pytest.mark.parametrize("name", PARENTS)
def test_each_class_is_exported_and_drawn(name: str) -> None:
    assert getattr(personsearch, name) is getattr(errors, name)
    assert name in personsearch.__all__
    assert errors.__doc__ is not None
    assert name in errors.__doc__
    assert getattr(errors, name).__doc__


def test_bad_values_can_be_caught_as_value_errors() -> None:
    with pytest.raises(ValueError, match="what came"):
        raise errors.AnnotationError("what came")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_lack_of_memory_names_what_to_lower(error: RuntimeError) -> None:
    with (
        pytest.raises(errors.OutOfMemoryError) as caught,
        errors.naming_settings({"images_per_iteration": 4, "max_size": 1500}),
    ):
        raise error
    said = str(error).splitlines()[0]
    assert str(caught.value) == (
        f"out of memory: {said}; lower or change images_per_iteration (4), max_size (1500)"
    )


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), errors.naming_settings({"max_size": 1}):
        raise RuntimeError("shapes do not fit")
