"""A run is another run when, and only when, something that it depends on changed."""

import ast
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from personsearch.bench import fingerprint
from personsearch.datasets import open_dataset
from personsearch.datasets.dataset import Dataset
from personsearch.errors import RecipeError
from personsearch.synthetic.benchmark import make_benchmark
from personsearch.training.catalogue import SYSTEMS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_benchmark(tmp_path_factory.mktemp("tiny"), size="tiny", workers=1)


def test_values_count_in_any_order() -> None:
    assert fingerprint.of_values({"a": 1, "b": 2}) == fingerprint.of_values({"b": 2, "a": 1})
    assert fingerprint.of_values({"a": 1}) != fingerprint.of_values({"a": 2})
    assert len(fingerprint.of_values({})) == fingerprint.LENGTH


def test_a_data_set_is_its_content_not_its_place(tiny: Dataset, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(tiny.root, tmp_path / "copy")
    assert fingerprint.of_dataset(open_dataset(elsewhere)) == fingerprint.of_dataset(tiny)


def test_a_data_set_with_another_box_or_picture_is_another(tiny: Dataset, tmp_path: Path) -> None:
    known = fingerprint.of_dataset(tiny)
    first = tiny.split("train")[0]
    moved = replace(first, boxes=first.boxes + 1)
    rest = list(tiny.split("train")[1:])
    splits = {"train": [moved, *rest], "test": tiny.split("test")}
    assert fingerprint.of_dataset(replace(tiny, splits=splits)) != known
    other = tmp_path / first.path.name
    other.write_bytes(first.path.read_bytes() + b"\0")
    splits["train"] = [replace(first, path=other), *rest]
    assert fingerprint.of_dataset(replace(tiny, splits=splits)) != known


def test_the_closure_follows_imports_and_leaves_out_what_only_shows() -> None:
    found = fingerprint.closure(["personsearch.systems.oim", *fingerprint.EVERY_RUN])
    assert {
        "personsearch.systems.oim",
        "personsearch.systems.regions",
        "personsearch.losses.oim",
        "personsearch.losses.memory",
        "personsearch.training.loop",
        "personsearch.training.recipe",
        "personsearch.evaluation.scoring",
        "personsearch.boxes",
    } <= set(found)
    assert not [name for name in found if name.startswith(fingerprint.WITHOUT_INFLUENCE)]
    assert found == sorted(set(found))


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_system_depends_on_one_that_it_does_not_use(system: str) -> None:
    module = SYSTEMS[system].constructor.partition(":")[0]
    others = {entry.constructor.partition(":")[0] for entry in SYSTEMS.values()} - {module}
    used = fingerprint.closure([module])
    # Some systems build on another; the baseline builds on none.
    if system == "oim":
        assert not others & set(used)
    assert module in used


def test_comments_and_docstrings_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def meaning(text: str) -> str:
        fingerprint._meaning.cache_clear()
        monkeypatch.setattr(fingerprint, "_tree", lambda module: ast.parse(text))
        return fingerprint._meaning("personsearch.errors")

    plain = meaning('"""One."""\ndef f():\n    """Two."""\n    return 1  # three\n')
    assert meaning("def f():\n\n    return 1\n") == plain
    assert meaning("def f():\n    return 2\n") != plain
    assert meaning('class A:\n    """Only words."""\n') == meaning("class A:\n    pass\n")
    fingerprint._meaning.cache_clear()


def test_an_unknown_system_is_named() -> None:
    with pytest.raises(RecipeError, match=r"system is 'nobody', expected one of 'oim'"):
        fingerprint.of_code("nobody")
