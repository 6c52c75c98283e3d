"""Embeddings and thumbnails of a store's export: so many rows a file, in safetensors."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from personsearch.errors import StoreError


def shard_name(kind: str, number: int) -> str:
    """Of a file."""
    return f"{kind}-{number:05}.safetensors"


def pack_vectors(rows: list[Any]) -> dict[str, NDArray[Any]]:
    """Tensors of embeddings (D,)."""
    return {"embeddings": np.stack(rows)}


def pack_thumbnails(rows: list[Any]) -> dict[str, NDArray[Any]]:
    """Tensors of pictures as JPEG."""
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return {"jpeg": np.frombuffer(b"".join(rows), np.uint8), "offsets": offsets}


class ShardWriter:
    """Rows into files of so many each."""

    def __init__(
        self,
        folder: Path,
        kind: str,
        rows: int,
        pack: Callable[[list[Any]], dict[str, NDArray[Any]]],
    ) -> None:
        self._folder, self._kind, self._size, self._pack = folder, kind, rows, pack
        self._rows: list[Any] = []
        self._number = 0

    def write(self, rows: list[Any]) -> None:
        """Adds rows."""
        self._rows += rows
        while len(self._rows) >= self._size:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows[: self._size], self._rows[self._size :]
        path = self._folder / shard_name(self._kind, self._number)
        write_whole(path, save(self._pack(rows)))
        self._number += 1

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._rows:
            self._flush()


@dataclass
class ShardReader:
    """Rows out of such files, of which one is open."""

    folder: Path
    kind: str
    size: int
    _number: int = -1
    _tensors: dict[str, NDArray[Any]] | None = None

    def _parts(self, begin: int, end: int) -> Iterator[tuple[Path, dict[str, Any], int, int]]:
        """Path, tensors, and first and last row of each file that rows lie in."""
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
            count = min(self.size - first, end - begin)
            yield path, self._tensors, first, first + count
            begin += count

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
                raise StoreError(f"{path}: does not say where thumbnails begin; export again")
            if given[-1] > len(jpeg):
                raise StoreError(f"{path}: a thumbnail ends outside of it; export again")
            found += [jpeg[a:b].tobytes() for a, b in pairwise(given)]
        return found


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file to the disk, not to its cache alone."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
