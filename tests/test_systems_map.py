"""docs/systems.md: every file, name, test, recipe and ablation that it points to is there."""

import ast
import importlib
import re
from functools import lru_cache
from pathlib import Path

import pytest

from personsearch.bench.ablation import ablation_names
from personsearch.recipes import names
from personsearch.training.catalogue import SYSTEMS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
CODE = sorted(set(re.findall(r"`([^`\s]+)`", TEXT)))
SOURCES = [word for word in CODE if re.fullmatch(r"[a-z_0-9/]+\.(py|toml)(:\w+)?", word)]
TESTS = [word for word in CODE if word.startswith("tests/")]


@lru_cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("word", [word for word in SOURCES if not word.startswith("tests/")])
def test_source_is_there(word: str) -> None:
    path, _, name = word.partition(":")
    if path.endswith(".toml") and (ROOT / "src" / "personsearch" / "recipes" / path).is_file():
        return
    assert (ROOT / "src" / "personsearch" / path).is_file()
    if name:
        module = "personsearch." + path.removesuffix(".py").replace("/", ".")
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("word", TESTS)
def test_test_is_there(word: str) -> None:
    path, _, name = word.partition("::")
    assert (ROOT / path).is_file()
    if name:
        assert name in _functions(ROOT / path)


def test_it_points_to_enough() -> None:
    assert len(SOURCES) > 40
    assert len(TESTS) > 40


def test_every_ablation_is_in_the_map_and_no_other() -> None:
    assert set(re.findall(r"bench ablation ([\w-]+)", TEXT)) == set(ablation_names())


def test_every_system_is_in_the_map_and_has_its_recipes() -> None:
    for name in SYSTEMS.keys() - {"xiao2016-0.1"}:  # which is not trained
        assert f"| `{name}` |" in TEXT
        for folder in ("cuhk-sysu", "prw", "synthetic-small", "synthetic-ablation"):
            assert (ROOT / "src" / "personsearch" / "recipes" / folder / f"{name}.toml").is_file()


def test_every_recipe_in_a_command_is_there() -> None:
    named = re.findall(r"personsearch train (\S+)", TEXT)
    assert named
    assert set(named) <= set(names())


def test_keys_are_keys() -> None:
    from personsearch.training.recipe import make_recipe

    known: set[str] = set()
    for name in SYSTEMS.keys() - {"xiao2016-0.1"}:  # which is not trained
        recipe = make_recipe({"system": name, "iterations": 1, "lr": 0.1})
        known |= set(recipe.model_dump()) | set(recipe.settings)
    named = re.findall(r"keys? ((?:`[^`]+`(?:, | or )?)+)", TEXT)
    keys = {word.split()[0] for group in named for word in re.findall(r"`([^`]+)`", group)}
    keys = {key for key in keys if "/" not in key and not key.endswith("*")}
    assert len(keys) > 20
    assert keys <= known
