"""A labelled benchmark drawn from a seed, the same bytes on every machine.

People walk past several cameras, each with its own viewpoint, scale, colour cast and noise. Many
look alike on purpose: the same colours in another pattern, cut or bag. Others have no identity.
Nobody is real, nothing is downloaded.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from personsearch.datasets import scenes
from personsearch.datasets.dataset import Dataset, Dropped, renumbering, with_ids
from personsearch.errors import DataError
from personsearch.processors import usable_processors
from personsearch.synthetic import annotated_layouts
from personsearch.synthetic.layouts import Box, Deck, Placement, ScenePlan
from personsearch.synthetic.object_classes import OBJECT_CLASSES, ObjectClass
from personsearch.synthetic.optics import Camera, make_cameras
from personsearch.synthetic.protocols import make_protocols
from personsearch.synthetic.randomness import Random
from personsearch.synthetic.render import Rendered, render
from personsearch.types import UNLABELLED, Scene

PICTURE_SIZE = (640, 480)
"""Width and height of scenes, unless the size or a layout has others."""


@dataclass(frozen=True)
class Size:
    """Size of a benchmark; pairs are for ``train`` and ``test``."""

    ids: tuple[int, int]  # identities
    pictures: tuple[int, int]  # scenes
    cameras: int
    galleries: tuple[int, ...]  # gallery sizes of protocols
    crowd: int  # identities in a scene, at most
    alike: tuple[int, ...]  # numbers of lookalikes; see `ObjectClass.make_looks`
    layout_scenes: int | None  # scenes taken from an annotation file, at most; None takes all
    picture: tuple[int, int] = PICTURE_SIZE  # width and height of a scene


SIZES = {
    "tiny": Size((7, 5), (22, 18), 3, (5, 10), 4, (4,), 40),
    "ablation": Size(
        (160, 40), (900, 150), 5, (10, 25, 50, 100), 6, (0, 0, 1, 2, 3), 600, (320, 240)
    ),
    "small": Size((145, 55), (700, 350), 5, (50, 100), 6, (0, 0, 1, 2, 3), 1000),
    "standard": Size(
        (600, 400), (6000, 4000), 8, (50, 100, 500, 1000, 2000), 6, (0, 0, 1, 2, 3), None
    ),
}
"""The sizes by name."""


def make_benchmark(
    out: Path,
    *,
    size: str = "small",
    seed: int = 0,
    layout: Path | None = None,
    object_class: str = "person",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Draw a benchmark into a folder: ``scenes.json`` and ``images/*.jpg``.

    The splits ``train`` and ``test`` show different people; the first protocol is the usual one.
    Equal arguments give equal files, with any number of workers.

    Args:
        out: the folder, created if missing; files of the same names are overwritten.
        size: ``tiny`` (12 identities, 40 scenes), ``ablation`` (200, 1,050 of 320 x 240),
            ``small`` (200, 1,050) or ``standard`` (1,000, 10,000).
        seed: seed of people, cameras and scenes.
        layout: an annotation file in COCO style; each drawn scene then has the picture size,
            boxes, identities and camera of one of its scenes (see `annotated_layouts`), and
            `size` only limits how many.
        object_class: ``person`` or ``tattoo``.
        workers: number of processes; None takes one per free processor, or only this one for few
            scenes. Several processes import the caller's script, which must be guarded by
            ``if __name__ == "__main__"``.
        progress: called with (scenes done, scenes in all).

    Raises:
        DataError: the size or class is unknown, the seed negative, or there is no worker.
        AnnotationError: the layout cannot be read.
    """
    out = Path(out)
    for what, value, known in (
        ("size", size, SIZES),
        ("object_class", object_class, OBJECT_CLASSES),
    ):
        if value not in known:
            raise DataError(f"{what} is {value!r}, expected one of {', '.join(map(repr, known))}")
    if seed < 0:
        raise DataError(f"seed is {seed}, expected 0 or more")
    if workers is not None and workers < 1:
        raise DataError(f"workers is {workers}, expected 1 or more, or None")
    amount = SIZES[size]
    dropped: Sequence[Dropped] = ()
    if layout is None:
        name = f"synthetic-{size}"
        plans = _plan(amount, object_class, seed)
    else:
        name = f"synthetic-{size}-as-{Path(layout).stem}"
        source = scenes.read(layout)
        dropped = source.dropped
        plans = _plan_like(source, amount, object_class, seed)
    (out / "images").mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[Scene]] = {"train": [], "test": []}
    visible: dict[str, list[float]] = {}
    for done, (plan, rendered) in enumerate(
        zip(plans, _rendered(plans, workers), strict=True), start=1
    ):
        path = out / "images" / plan.name
        path.write_bytes(rendered.jpeg)
        people = rendered.people
        splits[plan.split].append(
            Scene(
                name=plan.name,
                path=path,
                size=plan.camera.size,
                boxes=np.array([person.box for person in people], dtype=np.float32),
                ids=np.array([person.id for person in people], dtype=np.int64),
                camera=plan.camera.index,
                time=plan.time,
            )
        )
        visible[plan.name] = [person.visible for person in people]
        if progress is not None:
            progress(done, len(plans))
    numbers = renumbering(k for scene in splits["train"] for k in scene.ids.tolist())
    splits["train"] = [with_ids(scene, numbers) for scene in splits["train"]]
    protocols = make_protocols(splits["test"], visible, amount.galleries, Random(seed, 4))
    dataset = Dataset(name, out, splits, protocols, dropped, object_class, list(numbers))
    scenes.write(dataset, out)
    return dataset


def _rendered(plans: Sequence[ScenePlan], workers: int | None) -> Iterator[Rendered]:
    if workers is None:
        # Starting a process takes as long as drawing about 100 scenes.
        workers = max(1, min(len(plans) // 200, usable_processors()))
    if workers == 1:
        yield from map(render, plans)
        return
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(render, plans, chunksize=8)
    except BrokenProcessPool:
        raise DataError(
            f"the {workers} drawing processes ended early; guard the calling script with "
            "`if __name__ == '__main__':`, or pass workers=1"
        ) from None


def _plan(size: Size, object_class: str, seed: int) -> list[ScenePlan]:
    shown = OBJECT_CLASSES[object_class]
    cameras = make_cameras(size.cameras, size.picture, shown.places, seed)
    plans: list[ScenePlan] = []
    first = 0
    for part, split in enumerate(("train", "test")):
        rng = Random(seed, 1, part)
        looks = dict(enumerate(shown.make_looks(size.ids[part], size.alike, rng), start=first))
        # Where there are four or more cameras, everyone misses one of them.
        decks = [
            Deck([k for k in looks if size.cameras < 4 or k % size.cameras != camera.index], rng)
            for camera in cameras
        ]
        for number in range(size.pictures[part]):
            index = len(plans)
            camera = cameras[number % size.cameras]
            rng = Random(seed, 2, index)
            known = decks[camera.index].deal(rng.randrange(2, size.crowd + 1))
            crowd: list[tuple[int, Any]] = [(identity, looks[identity]) for identity in known]
            # Sometimes a group of strangers passes.
            strangers = rng.randrange(0, 3) + (5 if rng.randrange(0, 12) == 0 else 0)
            crowd += [(UNLABELLED, shown.random_look(rng)) for _ in range(strangers)]
            people = shown.stand(camera, rng.shuffled(crowd), rng)
            plans.append(
                ScenePlan(
                    name=f"c{camera.index + 1}_{index:05d}.jpg",
                    object_class=object_class,
                    split=split,
                    seed=(seed, 3, index),
                    camera=camera,
                    time=number // size.cameras * 20.0,
                    people=tuple(people),
                    props=tuple(shown.furnish(camera, people, rng)),
                )
            )
        first += len(looks)
    return plans


def _plan_like(source: Dataset, size: Size, object_class: str, seed: int) -> list[ScenePlan]:
    """Return plans that repeat the arrangement of a data set's scenes."""
    chosen = annotated_layouts.choose(source, size.layout_scenes)
    shown = OBJECT_CLASSES[object_class]
    cameras = _cameras_of([scene for part in chosen.values() for scene in part], shown, seed)
    known = [
        (split, identity)
        for split, part in chosen.items()
        for identity in sorted({k for scene in part for k in scene.ids.tolist()} - {UNLABELLED})
    ]
    numbers = {key: number for number, key in enumerate(known)}
    looks = shown.make_looks(len(numbers), size.alike, Random(seed, 1, 0))
    plans: list[ScenePlan] = []
    for split, scene in ((split, scene) for split, part in chosen.items() for scene in part):
        index = len(plans)
        rng = Random(seed, 2, index)
        people = []
        for box, identity in zip(scene.boxes.tolist(), scene.ids.tolist(), strict=True):
            number = numbers.get((split, identity), UNLABELLED)
            look = shown.random_look(rng) if number == UNLABELLED else looks[number]
            people.append(_in_box(tuple(box), number, look, scene.size, rng))
        plans.append(
            ScenePlan(
                name=str(PurePosixPath(scene.name).with_suffix(".jpg")).replace("/", "_"),
                object_class=object_class,
                split=split,
                seed=(seed, 3, index),
                camera=cameras[scene.camera, scene.size],
                time=scene.time,
                people=tuple(people),
                props=(),
            )
        )
    return plans


def _cameras_of(
    layouts: Sequence[Scene], shown: ObjectClass, seed: int
) -> dict[tuple[int | None, tuple[int, int]], Camera]:
    """Return a drawn camera for each real one, with its number and rough viewpoint."""
    groups: dict[tuple[int | None, tuple[int, int]], list[Scene]] = {}
    for scene in layouts:
        groups.setdefault((scene.camera, scene.size), []).append(scene)
    drawn = make_cameras(len(groups), PICTURE_SIZE, shown.places, seed)
    cameras = {}
    for camera, key in zip(drawn, sorted(groups, key=str), strict=True):
        horizon, eye, far = annotated_layouts.viewpoint(groups[key])
        cameras[key] = replace(
            camera, index=key[0] or 0, size=key[1], horizon=horizon, eye=eye, far=far, near=1.0
        )
    return cameras


def _in_box(box: Box, identity: int, look: Any, size: tuple[int, int], rng: Random) -> Placement:
    """Return a person who fills a box, and extends below it if the lower border cuts the box."""
    x1, y1, x2, y2 = box
    wide, tall = x2 - x1, y2 - y1
    whole = max(tall, 2.5 * wide) if y2 >= size[1] - 2 else tall
    # People in narrow boxes walk towards the camera or away, those in wide ones cross.
    axis = (0, 180) if wide < 0.38 * whole else (90, 270)
    return Placement(
        look=look,
        id=identity,
        x=(x1 + x2) / 2,
        foot=y1 + whole,
        unit=whole,
        view=(rng.pick(axis) + rng.randrange(-40, 41)) % 360,
        step=rng.randrange(0, 360),
        box=box,
        fill=(x1, y1, x2, y1 + whole),
    )
