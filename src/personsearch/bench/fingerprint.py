"""What a run depends on, as short hashes: its data set, and the code behind it.

The code is found without running it: imports are followed from the system's module, its stages and
the evaluation, so an edit of one system leaves the runs of the others valid. Comments, docstrings,
layout, and the names and places of modules do not count.
"""

import ast
import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import personsearch
from personsearch.datasets.dataset import Dataset
from personsearch.errors import RecipeError
from personsearch.training.catalogue import STAGES, SYSTEMS

ROOT = Path(personsearch.__file__).parent
LENGTH = 12
"""Hexadecimal digits of a fingerprint: 48 bits, so that a thousand runs do not collide."""

EVERY_RUN = (
    "personsearch.training.loop",
    "personsearch.evaluation.detection",
    "personsearch.evaluation.search",
    "personsearch.evaluation.runner",
    "personsearch.bench.measure",
)
"""Where the imports of every run start, besides its system and stages."""

WITHOUT_INFLUENCE = (
    "personsearch.training.catalogue",
    "personsearch.plots",
    "personsearch.cli",
    "personsearch.bench.worker",
    "personsearch.training.curves",
    "personsearch.training.tensorboard",
    "personsearch.training.report",
)
"""Modules that never change a metric; of the catalogue, the lines of the run's system count."""


def of_values(values: Mapping[str, Any]) -> str:
    """Return the fingerprint of plain values, in any order of the keys."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def of_dataset(dataset: Dataset) -> str:
    """Return the fingerprint of scenes, pictures and protocols, wherever the data set lies."""
    digest = hashlib.sha256()
    for split, scenes in dataset.splits.items():
        for scene in scenes:
            digest.update(f"{split} {scene.name} {scene.size} {scene.camera}".encode())
            digest.update(scene.boxes.tobytes() + scene.ids.tobytes() + scene.ignored.tobytes())
            digest.update(hashlib.sha256(scene.path.read_bytes()).digest())
    for name, protocol in dataset.protocols.items():
        digest.update(name.encode())
        for query, gallery in zip(protocol.queries, protocol.galleries, strict=True):
            digest.update(f"{query.scene} {query.box.tolist()} {query.id}".encode())
            digest.update("".join(gallery).encode())
    return digest.hexdigest()[:LENGTH]


@cache
def commit() -> str:
    """Return the version, and in a checkout the commit, marked if its files were changed."""
    about = f"personsearch {version('personsearch')}"
    git = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        if git(["git", "ls-files", "--error-unmatch", "__init__.py"]).returncode:
            return about
        head = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", "."]).stdout.strip()
    except OSError:
        return about
    return f"{about}, commit {head}{' with changes' if changed else ''}"


@lru_cache(maxsize=64)
def of_code(system: str) -> str:
    """Return the fingerprint of the code that a run of this system depends on."""
    if system not in SYSTEMS:
        raise RecipeError(f"system is {system!r}, expected one of {', '.join(map(repr, SYSTEMS))}")
    entry = SYSTEMS[system]
    paths = [entry.constructor, *(STAGES[stage] for stage in entry.stages)]
    modules = closure([*EVERY_RUN, *(path.partition(":")[0] for path in paths)])
    classes = [path.partition(":")[2] for path in paths]
    return of_values({"classes": classes, "code": sorted(map(_meaning, modules))})


def closure(modules: Iterable[str]) -> list[str]:
    """Return these modules and all of the package that they import, also inside functions."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or module.startswith(WITHOUT_INFLUENCE):
            continue
        found.add(module)
        waiting += [name for name in _imports(_tree(module)) if name not in found]
    return sorted(found)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _file(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                # A name is a module of that package, or something in the package itself.
                candidates = (f"{node.module}.{alias.name}", node.module)
                yield from [name for name in candidates if _file(name)][:1]


def _file(module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != "personsearch":
        return None
    place = ROOT.joinpath(*parts[1:])
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


@lru_cache(maxsize=512)
def _tree(module: str) -> ast.Module:
    file = _file(module)
    if file is None:
        raise RecipeError(f"module {module!r} has no source file in {ROOT}")
    return ast.parse(file.read_text(encoding="utf-8"))


@lru_cache(maxsize=512)
def _meaning(module: str) -> str:
    """The module's code as text, without docstrings and imports, which name places."""
    tree = ast.parse(ast.unparse(_tree(module)))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # Only some kinds of nodes have a body; it was just found.
            node.body = [*filter(_counts, body)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _counts(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant(value=str())):
            return False
    return True
