"""Embeddings and thumbnails of an export: files of so many rows each, in safetensors."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from personsearch.errors import StoreError
from personsearch.store.exchange_tables import Write, batches


def shard_name(kind: str, number: int) -> str:
    """Return the name of a file."""
    return f"{kind}-{number:05}.safetensors"


def _packed(kind: str, rows: list[Any]) -> dict[str, NDArray[Any]]:
    """The tensors of embeddings (D,), or of JPEG pictures."""
    if kind == "embeddings":
        return {kind: np.stack(rows)}
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return {"jpeg": np.frombuffer(b"".join(rows), np.uint8), "offsets": offsets}


def write_shards(folder: Path, kind: str, size: int) -> AbstractContextManager[Write]:
    """Write embeddings or thumbnails, by the kind of shard, to files of `size` rows."""
    paths = (folder / shard_name(kind, number) for number in count())
    return batches(size, lambda rows: next(paths).write_bytes(save(_packed(kind, rows))))


@dataclass
class ShardReader:
    """Reads rows of such files, of which one is open."""

    folder: Path
    kind: str
    size: int
    _number: int = -1
    _tensors: dict[str, NDArray[Any]] | None = None

    def _parts(self, begin: int, end: int) -> Iterator[tuple[Path, dict[str, Any], int, int]]:
        """Path, tensors, and first and last row of each file that holds some of the rows."""
        while begin < end:
            number, first = divmod(begin, self.size)
            path = self.folder / shard_name(self.kind, number)
            if number != self._number or self._tensors is None:
                try:
                    with safe_open(path, framework="numpy") as file:
                        self._tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                except (SafetensorError, OSError, ValueError, TypeError) as error:
                    raise StoreError(f"{path}: is damaged ({error}); export again") from None
                self._number = number
            last = min(self.size, first + end - begin)
            yield path, self._tensors, first, last
            begin += last - first

    def vectors(self, begin: int, end: int, dim: int) -> NDArray[np.float16]:
        """Embeddings (N, D) of some rows."""
        parts = [np.zeros((0, dim), np.float16)]
        for path, tensors, first, last in self._parts(begin, end):
            found = tensors.get("embeddings")
            if found is None or found.dtype != np.float16 or found.shape[1:] != (dim,):
                what = "none" if found is None else f"{found.dtype} {found.shape}"
                raise StoreError(f"{path}: embeddings are {what}, expected float16 (N, {dim})")
            parts.append(found[first:last])
        return np.concatenate(parts)

    def thumbnails(self, begin: int, end: int) -> list[bytes]:
        """Thumbnails of some rows."""
        found: list[bytes] = []
        for path, tensors, first, last in self._parts(begin, end):
            jpeg, offsets = tensors.get("jpeg"), tensors.get("offsets")
            if jpeg is None or jpeg.dtype != np.uint8 or jpeg.ndim != 1 or offsets is None:
                raise StoreError(f"{path}: holds no thumbnails; export again")
            given = offsets[first : last + 1].tolist() if offsets.dtype == np.int64 else []
            if len(given) != last - first + 1 or given != sorted(given) or given[0] < 0:
                raise StoreError(f"{path}: the offsets of its thumbnails are wrong; export again")
            if given[-1] > len(jpeg):
                raise StoreError(f"{path}: a thumbnail ends outside the file; export again")
            found += [jpeg[a:b].tobytes() for a, b in pairwise(given)]
        return found
