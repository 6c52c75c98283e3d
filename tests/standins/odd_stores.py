"""Stores with files of odd names, in every state."""

import random
from pathlib import Path

import numpy as np

from personsearch.indexing.tracks import link_detections
from personsearch.store import (
    FileStamp,
    FoundPeople,
    ModelIdentity,
    Store,
    open_store,
)
from personsearch.store.merge import units_of

DIM = 8


MODEL = ModelIdentity("omz", "a" * 64, DIM)


ODD = (
    "line\nfeed.jpg",
    "quo\"te'.jpg",
    "emoji 🚪.jpg",
    "u2028\u2028.jpg",
    "ü" * 127 + "x",
    "a/b c",
)


def people(rng: random.Random, frame: int | None, time: float | None) -> FoundPeople:
    count = rng.choice([0, 1, 1, 3])
    generator = np.random.default_rng(rng.randrange(2**32))
    rows = generator.normal(size=(count, DIM)).astype(np.float32)
    corners = generator.uniform(0, 50, (count, 2))
    return FoundPeople(
        (640, 480),
        np.concatenate([corners, corners + np.array([10, 30])], axis=1).astype(np.float32),
        generator.uniform(0.3, 1, count).astype(np.float32),
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        [generator.bytes(rng.choice([0, 40, 5000])) for _ in range(count)],
        frame=frame,
        position=None if frame is None else rng.choice([frame / 7, frame / 3]),
        time=time,
    )


def fill(store: Store, seed: int) -> None:
    """Photos and videos of odd names, in every state."""
    rng = random.Random(seed)
    names = [*ODD, *(f"{n}.jpg" for n in range(rng.randrange(8)))]
    rng.shuffle(names)
    for name in names:
        place = rng.choice(["/photos", "/más fotos\n🚪"])
        stamp = FileStamp(rng.randrange(10**9), rng.randrange(10**18))
        file = store.begin_file(place, name, stamp, rng.choice([None, "", 'door "1"\n']))
        if rng.random() < 0.2:
            store.finish_file(file, "it is broken: \n'why'")
            continue
        if rng.random() < 0.5:
            time = rng.choice([None, 1e9 / 3])
            store.add(file, [people(rng, None, time)], finished=rng.random() < 0.8)
        else:
            store.add(file, [people(rng, frame, rng.random()) for frame in range(rng.randrange(9))])
            if rng.random() < 0.7:
                store.finish_video(file, link_detections(store.frame_detections(file)), views=2)
        if rng.random() < 0.15:
            store.erase_files(place, [name])


def make(folder: Path, seed: int = 0) -> Path:
    with open_store(folder, model=MODEL, write=True) as store:
        fill(store, seed)
    return folder


def one(folder: Path, stamp: FileStamp, time: float, name: str = "a.jpg") -> Path:
    """A store of one photo with two people."""
    rng = random.Random(stamp.changed)
    with open_store(folder, model=MODEL, write=True) as store:
        file = store.begin_file("/photos", name, stamp, "door")
        found = people(rng, None, time)
        while len(found.boxes) != 3:
            found = people(rng, None, time)
        store.add(file, [found], finished=True)
    return folder


def contents(folder: Path) -> list[object]:
    with open_store(folder) as store:
        assert store.damage() == ""
        return [
            (
                *(unit.source, unit.name, unit.stamp, unit.camera, unit.state, unit.reason),
                *(unit.pictures, unit.tracks, unit.people),
                unit.vectors.tobytes(),
                unit.thumbnails,
            )
            for unit in units_of(store)
        ]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
