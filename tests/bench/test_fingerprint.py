"""A run is another run when, and only when, something that it depends on changed."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from personsearch.bench import fingerprint
from personsearch.datasets import open_dataset
from personsearch.datasets.dataset import Dataset
from personsearch.errors import RecipeError
from personsearch.training.catalogue import SYSTEMS, System


def test_values_count_in_any_order() -> None:
    assert fingerprint.of_values({"a": 1, "b": 2}) == fingerprint.of_values({"b": 2, "a": 1})
    assert fingerprint.of_values({"a": 1}) != fingerprint.of_values({"a": 2})
    assert len(fingerprint.of_values({})) == fingerprint.LENGTH


def test_a_data_set_is_its_content_not_its_place(drawn: Dataset, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(drawn.root, tmp_path / "copy")
    assert fingerprint.of_dataset(open_dataset(elsewhere)) == fingerprint.of_dataset(drawn)


def test_a_data_set_with_another_box_or_picture_is_another(drawn: Dataset, tmp_path: Path) -> None:
    known = fingerprint.of_dataset(drawn)
    first = drawn.split("train")[0]
    moved = replace(first, boxes=first.boxes + 1)
    rest = list(drawn.split("train")[1:])
    splits = {"train": [moved, *rest], "test": drawn.split("test")}
    assert fingerprint.of_dataset(replace(drawn, splits=splits)) != known
    other = tmp_path / first.path.name
    other.write_bytes(first.path.read_bytes() + b"\0")
    splits["train"] = [replace(first, path=other), *rest]
    assert fingerprint.of_dataset(replace(drawn, splits=splits)) != known


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


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, str]], str]]:
    """Fingerprint of a package of these files, whose system is the class `S`."""

    def code(files: dict[str, str]) -> str:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        system = next(name for name, text in files.items() if "class S" in text)
        module = f"personsearch.{system.removesuffix('.py').replace('/', '.')}"
        monkeypatch.setattr(fingerprint, "ROOT", root)
        monkeypatch.setattr(fingerprint, "EVERY_RUN", ())
        monkeypatch.setitem(fingerprint.SYSTEMS, "s", System(f"{module}:S", ()))
        for cached in (fingerprint.of_code, fingerprint._tree, fingerprint._meaning):
            cached.cache_clear()
        return fingerprint.of_code("s")

    yield code
    for cached in (fingerprint.of_code, fingerprint._tree, fingerprint._meaning):
        cached.cache_clear()


BEFORE = {
    "systems/s.py": "from personsearch.losses.l import f\nclass S:\n    loss = f\n",
    "losses/l.py": "def f():\n    return 1\n",
    "other.py": "x = 1\n",
}


def test_moved_and_renamed_modules_do_not_count(package: Callable[[dict[str, str]], str]) -> None:
    moved = {
        "t.py": "from personsearch.deep.loss import f\nclass S:\n    loss = f\n",
        "deep/loss.py": BEFORE["losses/l.py"],
    }
    assert package(moved) == package(BEFORE)


@pytest.mark.parametrize(
    ("file", "text", "same"),
    [
        ("losses/l.py", "def f():\n    return 2\n", False),
        ("systems/s.py", BEFORE["systems/s.py"].replace("loss =", "term ="), False),
        ("losses/l.py", '"""One."""\ndef f():\n    """Two."""\n\n    return 1  # three\n', True),
        ("other.py", "x = 2\n", True),
    ],
)
def test_code_counts_and_comments_do_not(
    package: Callable[[dict[str, str]], str], file: str, text: str, same: bool
) -> None:
    assert (package(BEFORE | {file: text}) == package(BEFORE)) is same


def test_modules_without_influence_exist() -> None:
    for module in (*fingerprint.EVERY_RUN, *fingerprint.WITHOUT_INFLUENCE):
        assert fingerprint._file(module) is not None


def test_an_unknown_system_is_named() -> None:
    with pytest.raises(RecipeError, match=r"system is 'nobody', expected one of 'oim'"):
        fingerprint.of_code("nobody")
