"""Published networks: the manifest `zoo.toml`, and the files on this machine.

Only `pull` downloads anything, when the user asks for it. An unknown pair, and a file that is
missing, wrong or cannot be downloaded, is a `ModelError`.
"""

import os
import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from personsearch.download import Expected, download
from personsearch.errors import ModelError

if TYPE_CHECKING:
    from personsearch.systems.two_step import TwoStep

FOLDER_VARIABLE = "PERSONSEARCH_MODELS"  # names the folder of published networks
Progress = Callable[[str, int, int], None]  # called with (file, bytes downloaded, bytes in total)


@dataclass(frozen=True)
class ZooFile:
    """A file of a network."""

    path: str  # relative to the base address
    expected: Expected

    @property
    def name(self) -> str:
        """Name of the file on this machine."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Pair:
    """A detector and an embedder to be used together."""

    name: str  # for ``--model`` and `personsearch.load`
    title: str
    license: str  # of both networks
    work: str  # operations per picture and person
    stated: str  # accuracy that the authors state
    files: tuple[ZooFile, ...]  # of both networks
    networks: Mapping[str, Any]  # the tables ``detector`` and ``embedder`` of a description

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.expected.size for file in self.files)


@dataclass(frozen=True)
class Problem:
    """A file that is missing or wrong, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Zoo:
    """The manifest."""

    base: str  # address of all files
    default: str  # name of the default pair
    pairs: Mapping[str, Pair]  # by name

    def pair(self, name: str) -> Pair:
        """Return a pair by name."""
        if name not in self.pairs:
            raise ModelError(
                f"no pair of published networks is named {name!r}; expected {', '.join(self.pairs)}"
            )
        return self.pairs[name]


@lru_cache
def zoo() -> Zoo:
    """Return the manifest of this package."""
    return read_zoo(files("personsearch").joinpath("zoo.toml").read_text(encoding="utf-8"))


def read_zoo(text: str) -> Zoo:
    """Parse a manifest."""
    table = tomllib.loads(text)
    pairs = {}
    for name, about in table["pairs"].items():
        entries = []
        for entry in about.pop("files"):
            (algorithm,) = set(entry) - {"path", "size"}
            expected = Expected(entry["size"], algorithm, entry[algorithm])
            entries.append(ZooFile(entry["path"], expected))
        networks = {"detector": about.pop("detector"), "embedder": about.pop("embedder")}
        pairs[name] = Pair(name=name, files=tuple(entries), networks=networks, **about)
    return Zoo(table["base"], table["default"], pairs)


def models_folder() -> Path:
    """Folder of published networks: ``$PERSONSEARCH_MODELS``, or the platform's cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else user_cache_path("personsearch") / "models"


def check(pair: Pair, folder: Path) -> list[Problem]:
    """Read every byte of a pair and return what is missing or wrong."""
    problems = []
    for file in pair.files:
        path = folder / file.name
        try:
            wrong = file.expected.problem(path)
        except FileNotFoundError:
            wrong = "missing"
        except OSError as error:
            wrong = f"cannot be read ({error.strerror})"
        if wrong:
            problems.append(Problem(path, wrong))
    return problems


def pull(
    pair: Pair, folder: Path, *, base: str | None = None, progress: Progress | None = None
) -> None:
    """Download the files of a pair that are missing or wrong.

    `base` replaces the address of the manifest; the paths stay.
    """
    address = (base or zoo().base).rstrip("/")
    for file in pair.files:
        download(
            f"{address}/{file.path}",
            folder / file.name,
            file.expected,
            progress=partial(progress, file.name) if progress else None,
        )


def copy(pair: Pair, source: Path, folder: Path) -> None:
    """Verify a pair in a folder of this machine or its subfolders, and copy it, or nothing."""
    if not source.is_dir():
        raise ModelError(f"{source}: no such folder; expected one with the pair's files")
    found: dict[str, Path] = {}
    for file in pair.files:
        candidates = [source / file.name, *sorted(source.rglob(file.name))]
        present = [path for path in candidates if path.is_file()]
        if not present:
            wanted = ", ".join(each.name for each in pair.files)
            raise ModelError(f"{source}: has no {file.name}; pair {pair.name!r} needs {wanted}")
        right = [path for path in present if not file.expected.problem(path)]
        if not right:
            raise ModelError(f"{present[0]}: {file.expected.problem(present[0])}")
        found[file.name] = right[0]
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in found.items():
        part = folder / f"{name}.copy"
        shutil.copyfile(path, part)
        part.replace(folder / name)


def load_pair(name: str, folder: Path | None = None, device: str = "auto") -> "TwoStep":
    """Load a pair of published networks as a model."""
    pair, folder = zoo().pair(name), folder or models_folder()
    if problems := check(pair, folder):
        what = "; ".join(f"{problem.path}: {problem.reason}" for problem in problems)
        raise ModelError(
            f"the networks {name!r} are not on this machine ({what}); download them with: "
            f"personsearch models pull {name}"
        )
    from personsearch.external.description import parse_description
    from personsearch.systems.two_step import from_description

    description = parse_description({**pair.networks, "name": name}, f"pair {name!r}")
    return from_description(description, folder, device)
