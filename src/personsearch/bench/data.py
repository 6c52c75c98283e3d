"""The data sets that runs are trained and measured on; synthetic ones drawn when first needed."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from personsearch.bench.fingerprint import of_dataset
from personsearch.datasets import open_dataset
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.formats import FORMATS, detect_format
from personsearch.errors import DataError

Progress = Callable[[int, int], None]  # called with scenes drawn, and in all


@dataclass(frozen=True)
class Drawn:
    """A data set that can be drawn anywhere: the same arguments give the same bytes."""

    size: str  # a key of `synthetic.benchmark.SIZES`
    object_class: str = "person"
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.size}-{self.object_class}-{self.seed}"


@dataclass(frozen=True)
class Source:
    """A data set on disk, and the fingerprint of its content."""

    folder: Path
    fingerprint: str


NOT_DRAWN = "not drawn"
"""The fingerprint of a data set that is not there, so that no run of it can be there either."""


def drawn(
    wanted: Drawn, runs: Path, *, draw: bool = True, progress: Progress | None = None
) -> Source:
    """Return the data set below a folder of runs; draw it if it is not there and `draw` is true."""
    from personsearch.synthetic.benchmark import make_benchmark

    folder = (runs / "data" / wanted.name).resolve()
    complete = folder / "scenes.json"  # written last
    if not complete.is_file():
        if not draw:
            return Source(folder, NOT_DRAWN)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{folder.name}.lock")):  # others may draw it, too
                if not complete.is_file():
                    make_benchmark(folder, **asdict(wanted), progress=progress)
        except OSError as error:
            raise DataError(f"{folder}: cannot be drawn ({error}); choose another folder") from None
    return at(folder)


def at(folder: Path) -> Source:
    """Return the data set of any format in a folder."""
    folder = folder.resolve()
    return Source(folder, of_dataset(opened(folder)))


def check_format(folder: Path, expected: str, table: str) -> None:
    """Raise DataError if a folder holds a data set of another format than a table needs."""
    if expected in FORMATS and folder.exists() and (found := detect_format(folder)) != expected:
        raise DataError(
            f"{table} needs the data set {expected}, but {folder.name} holds one of "
            f"format {found}; give the folder of {expected}: --data FOLDER"
        )


@lru_cache(maxsize=8)
def opened(folder: Path) -> Dataset:
    """Read a data set, once."""
    return open_dataset(folder)
