"""A store of nine people: two photos of one source, and three frames of a video of another."""

from pathlib import Path

import numpy as np

from personsearch.store import FileStamp, FoundPeople, ModelIdentity, Store

DIM = 8
MODEL = ModelIdentity("omz", "a" * 64, DIM)
STAMP = FileStamp(1000, 5)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def found(count: int, seed: int = 0, **more: object) -> FoundPeople:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 50, (count, 2))
    sizes = np.stack([np.full(count, 10.0), 20.0 + 10 * np.arange(count)], axis=1)
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    scores = generator.uniform(0.5, 1.0, count)
    thumbnails = [b"JPEG" + bytes([seed, i]) * 30 for i in range(count)]
    return FoundPeople(
        (640, 480),
        boxes.astype(np.float32),
        scores.astype(np.float32),
        vectors(count, seed),
        thumbnails,
        **more,  # type: ignore[arg-type]
    )


def fill(store: Store) -> None:
    """Two photos of one source and three frames of a video of another; nine people."""
    for number, name in enumerate(("a.jpg", "deep/b.jpg")):
        file = store.begin_file("/photos", name, STAMP, "phone")
        store.add(file, [found(2, number, time=100.0 + number)], finished=True)
    file = store.begin_file("/door.mp4", "", STAMP, "door")
    store.add(file, [found(n, 10 + n, frame=5 * n, time=200.0 + n) for n in (0, 2, 3)])
    store.finish_file(file)


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
