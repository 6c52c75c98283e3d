"""Pooled features on disk, so that frozen layers run only once.

    people.safetensors           id and picture of each row
    features-00000.safetensors   the features, some hundred megabytes per file
    ...

The metadata of each file holds a fingerprint of everything that the features depend on. Rows are
read through memory maps, so a cache may be larger than memory. A cache that is missing, damaged, of
another fingerprint, or that cannot be written is a `DataError`.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from personsearch.errors import DataError

FORMAT = "personsearch-features-1"
SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Rows:
    """Features of R people."""

    features: Tensor  # (R, C, h, w) float32
    ids: Tensor  # (R,) int64
    scenes: Tensor  # (R,) int64, the index of the picture


class FeatureCache:
    """The features in a folder that `write_features` wrote; `ids` and `scenes` as in `Rows`."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        folder = Path(folder)
        if not (folder / "people.safetensors").is_file():
            raise DataError(f"{folder}: no cached features")
        files = [folder / "people.safetensors", *sorted(folder.glob("features-*.safetensors"))]
        try:
            # safetensors does not type what it opens.
            opened: list[Any] = [safe_open(file, framework="pt") for file in files]
            for file, handle in zip(files, opened, strict=True):
                metadata = handle.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise DataError(f"{file}: was not written by personsearch; expected {FORMAT}")
                made_with = str(metadata.get("fingerprint"))
                if made_with != fingerprint:
                    raise DataError(
                        f"{folder}: the cached features were made with another detector, other "
                        f"boxes or other settings (fingerprint {made_with[:12]}, expected "
                        f"{fingerprint[:12]})"
                    )
            people = load_file(files[0])
            self.ids, self.scenes = people["ids"], people["scenes"]
            self._slices = [handle.get_slice("features") for handle in opened[1:]]
        except (OSError, KeyError, SafetensorError) as error:
            raise DataError(f"{folder}: cached features are damaged ({error})") from None
        counts = [0, *(int(part.get_shape()[0]) for part in self._slices)]
        self._starts = torch.tensor(counts).cumsum(0)
        if int(self._starts[-1]) != len(self.ids):
            raise DataError(
                f"{folder}: cached features are damaged: {int(self._starts[-1])} rows of "
                f"{len(self.ids)} are there"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        """Features (R, C, h, w) of one or more rows."""
        parts = []
        for row in rows:
            shard = int(torch.searchsorted(self._starts, row, right=True)) - 1
            place = row - int(self._starts[shard])
            parts.append(self._slices[shard][place : place + 1])
        return torch.cat(parts)


def write_features(folder: Path, fingerprint: str, parts: Iterable[Rows]) -> None:
    """Write features as they arrive; `folder` is replaced at the end, in one move."""
    folder = Path(folder)
    fresh = folder.with_name(folder.name + ".new")
    metadata = {"format": FORMAT, "fingerprint": fingerprint}
    ids: list[Tensor] = []
    scenes: list[Tensor] = []
    waiting: list[Tensor] = []
    shards = 0

    def flush() -> None:
        nonlocal shards
        if waiting:
            tensors = {"features": torch.cat(waiting)}
            save_file(tensors, fresh / f"features-{shards:05}.safetensors", metadata)
            shards += 1
            waiting.clear()

    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for part in parts:
            if len(part.ids):
                ids.append(part.ids)
                scenes.append(part.scenes)
                waiting.append(part.features.float())
            if sum(w.numel() * 4 for w in waiting) >= SHARD_BYTES:
                flush()
        flush()
        if not ids:
            raise DataError("the training set has no labelled people whose features to keep")
        people = {"ids": torch.cat(ids), "scenes": torch.cat(scenes)}
        save_file(people, fresh / "people.safetensors", metadata)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{folder}: the features cannot be written ({error}); free space, or set feature_cache "
            "to another folder"
        ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
