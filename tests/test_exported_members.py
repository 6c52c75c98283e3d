"""The public surface is stated once, and is all there."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import personsearch

EXPECTED = {
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
    "UNLABELLED",
    "evaluate_detection",
    "evaluate_search",
    "load",
    "open",
    "open_dataset",
    "read_recipe",
}


def test_all_is_what_is_promised() -> None:
    assert set(personsearch.__all__) == EXPECTED
    assert len(personsearch.__all__) == len(EXPECTED)
    assert dir(personsearch) == sorted(EXPECTED)


def test_every_name_is_there_and_documented() -> None:
    for name in personsearch.__all__:
        value = getattr(personsearch, name)
        if name != "UNLABELLED":
            assert inspect.getdoc(value), name
            assert value.__name__ == {"open": "open_archive"}.get(name, name)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(personsearch.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and "personsearch" in node.module
        for alias in node.names
    }
    assert typed == EXPECTED


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(personsearch, "nonsense")


def test_importing_loads_no_network_library() -> None:
    code = "import sys, personsearch; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
