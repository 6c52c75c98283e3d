"""The layout of docs/design.md: what imports what, and that tests mirror the package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter import api

import personsearch

ROOT = Path(__file__).parents[1]
PACKAGE = Path(personsearch.__file__).parent
SOURCES = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"
)
FOLDERS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
TESTS = sorted(path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py"))

WITHOUT_TEST = {
    "__main__.py": "one call of cli/main.py",
    "engines/index_lists.py": "test_index.py",
    "engines/index_parts.py": "test_index.py",
    "engines/milvus_files.py": "test_milvus.py",
    "engines/sqlite.py": "test_engine.py, the contract of all engines",
    "store/exchange_shards.py": "test_exchange.py",
    "store/exchange_tables.py": "test_exchange.py",
    "store/index_files.py": "tests/engines/test_index.py",
    "store/tracks.py": "tests/indexing/test_tracks.py",
    "systems/backbones.py": "a name of 0.1: test_base.py",
    "systems/pyramids.py": "test_sequential.py and test_rdlr.py",
    "training/catalogue.py": "test_recipe.py and test_stages.py",
    "training/report.py": "test_loop.py",
    "training/tensorboard.py": "test_loop.py",
}
"""Source files without a test file of their own, and what tests them."""

WITHOUT_SOURCE = {
    "test_architecture.py": "the layout of the package",
    "test_compose.py": "compose.yaml",
    "test_exported_members.py": "personsearch.__all__",
    "test_own_footage.py": "docs/tutorial.md, from one's own videos to a search",
    "test_readme.py": "README.md",
    "test_recipes.py": "the shipped recipes",
    "test_systems_map.py": "docs/systems.md",
    "test_tutorials.py": "the tutorials in docs/",
    "test_version_0_1.py": "what version 0.1 wrote",
    "test_wheel.py": "the built package",
    "store/test_kills.py": "every writer of a store",
    "benchmarks/test_benchmarks.py": "benchmarks/",
    "benchmarks/test_real_frames.py": "benchmarks/real_frames.py",
    "cli/test_evaluate_published.py": "the published results that `evaluate` prints",
    "examples/test_two_step.py": "examples/",
    "fuzz/test_api.py": "requests of any content",
    "fuzz/test_exchange.py": "exports of any content",
    "fuzz/test_files.py": "annotations, recipes, TOML and JSON of any content",
    "fuzz/test_media.py": "pictures and videos of any content",
    "recipes/test_paper_sizes.py": "the numbers in recipes/cuhk-sysu and recipes/prw",
    "systems/test_published_code.py": "NAE and SeqNet beside the published programs",
    "systems/test_region_systems.py": "what all systems on proposals have in common",
    "web/test_imported_places.py": "pictures of what an import names",
    "web/test_over_milvus.py": "the API on another engine",
    "web/test_together.py": "what several processes do to one store while it is served",
    "web/test_page.py": "web/static/, in a browser",
    "web/test_web_doc.py": "docs/web.md",
}
"""Test files of something other than one source file, and what it is."""


def test_import_contracts_of_pyproject_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    # `read_configuration` also sets import-linter up.
    assert api.read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    kept = api.use_cases.lint_imports(
        str(ROOT / "pyproject.toml"), cache_dir=None, is_debug_mode=True, no_logo=True
    )
    assert kept, capsys.readouterr().out


def test_every_source_file_has_its_test_file() -> None:
    missing = {str(path) for path in SOURCES if path.with_name(f"test_{path.name}") not in TESTS}
    assert missing == set(WITHOUT_TEST)


def test_every_test_file_has_its_source_file() -> None:
    strangers = [
        str(path)
        for path in TESTS
        if path.with_name(path.name.removeprefix("test_")) not in SOURCES
        and str(path) not in WITHOUT_SOURCE
    ]
    assert strangers == []


def test_exceptions_exist() -> None:
    assert {path for path in WITHOUT_SOURCE if Path(path) not in TESTS} == set()


def test_no_source_file_is_longer_than_500_lines() -> None:
    lengths = {
        str(path): len((PACKAGE / path).read_text(encoding="utf-8").splitlines())
        for path in SOURCES
    }
    assert {path: length for path, length in lengths.items() if length > 500} == {}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_says_in_one_sentence_what_it_holds(folder: Path) -> None:
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    sentence = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
    assert sentence.endswith(".")
    assert sentence in (ROOT / "docs" / "design.md").read_text(encoding="utf-8")


def test_folders_go_two_levels_deep_and_say_what_they_hold() -> None:
    for path in SOURCES:
        assert len(path.parts) <= 2, path
        assert not {part.removesuffix(".py") for part in path.parts} & {"utils", "core", "common"}
    with_code = {path.parent.name for path in SOURCES if len(path.parts) == 2}
    assert with_code <= {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("module", ["personsearch", "personsearch.store", "personsearch.search"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*{{'torch', 'scipy'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
