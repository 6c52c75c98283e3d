"""Runs a model over scenes: detections for the gallery, embeddings for the queries."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from personsearch.datasets.galleries import Excluding
from personsearch.errors import DataError
from personsearch.media.pictures import read_scene
from personsearch.precision import autocast
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.inference import device_of, to_images
from personsearch.types import Detections, FloatArray, Scene, SearchProtocol

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


_T = TypeVar("_T")


def _chunks(scenes: Sequence[Scene], size: int) -> Iterator[list[int]]:
    """Rows of scenes to run together: of one size, since a smaller picture would be padded, and
    what the network sees at its border would depend on its neighbours in the batch.
    """
    by_size: dict[tuple[int, int], list[int]] = {}
    for row, scene in enumerate(scenes):
        by_size.setdefault(scene.size, []).append(row)
    for rows in by_size.values():
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


@torch.inference_mode()
def _run(
    model: PersonSearchModel,
    scenes: Sequence[Scene],
    step: Callable[[list[Tensor], list[int]], Sequence[_T]],
    batch_size: int,
    precision: str,
    progress: Progress | None,
) -> list[_T]:
    """What `step` makes of the pictures of some rows, for every scene in order."""
    model.eval()
    device = device_of(model)
    done: dict[int, _T] = {}
    for rows in _chunks(scenes, batch_size):
        images = to_images([read_scene(scenes[row]) for row in rows], device)
        with autocast(device, precision):
            done.update(zip(rows, step(images, rows), strict=True))
        if progress:
            progress(len(done), len(scenes))
    return [done[row] for row in range(len(scenes))]


def detect_scenes(
    model: PersonSearchModel,
    scenes: Sequence[Scene],
    *,
    batch_size: int = 4,
    precision: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Detections]:
    """Everyone whom the model finds in each scene, by scene name."""

    def detect(images: list[Tensor], rows: list[int]) -> Sequence[Detections]:
        return model.detect(images)

    found = _run(model, scenes, detect, batch_size, precision, progress)
    return {scene.name: one for scene, one in zip(scenes, found, strict=True)}


def embed_scenes(
    model: PersonSearchModel,
    scenes: Sequence[Scene],
    boxes: Sequence[FloatArray],
    *,
    batch_size: int = 4,
    precision: str = "auto",
    progress: Progress | None = None,
) -> list[FloatArray]:
    """Embeddings (N_i, D) of given boxes (N_i, 4) in each scene."""

    def embed(images: list[Tensor], rows: list[int]) -> list[FloatArray]:
        # Copied, since boxes may be read-only.
        given = [torch.tensor(boxes[row], device=images[0].device) for row in rows]
        return [vectors.float().cpu().numpy() for vectors in model.embed(images, given)]

    return _run(model, scenes, embed, batch_size, precision, progress)


def embed_queries(
    model: PersonSearchModel,
    protocol: SearchProtocol,
    scenes: Sequence[Scene],
    *,
    batch_size: int = 4,
    precision: str = "auto",
    progress: Progress | None = None,
) -> FloatArray:
    """Embeddings (Q, D) of a protocol's queries; each query scene is read once.

    Raises:
        DataError: a query's scene is not among `scenes`.
    """
    by_name = {scene.name: scene for scene in scenes}
    rows: dict[str, list[int]] = {}
    for row, query in enumerate(protocol.queries):
        if query.scene not in by_name:
            raise DataError(
                f"protocol {protocol.name!r}: query scene {query.scene!r} is not among the "
                f"{len(scenes)} scenes given"
            )
        rows.setdefault(query.scene, []).append(row)
    boxes = [np.stack([protocol.queries[row].box for row in r]) for r in rows.values()]
    vectors = embed_scenes(
        model,
        [by_name[name] for name in rows],
        boxes,
        batch_size=batch_size,
        precision=precision,
        progress=progress,
    )
    result = np.zeros((len(protocol.queries), model.embedding_dim), dtype=np.float32)
    for r, v in zip(rows.values(), vectors, strict=True):
        result[r] = v
    return result


def ground_truth_detections(
    model: PersonSearchModel,
    scenes: Sequence[Scene],
    *,
    batch_size: int = 4,
    precision: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Detections]:
    """The annotated boxes of each scene as detections of score 1: the detector's upper bound."""
    vectors = embed_scenes(
        model,
        scenes,
        [scene.boxes for scene in scenes],
        batch_size=batch_size,
        precision=precision,
        progress=progress,
    )
    return {
        scene.name: Detections(scene.boxes, np.ones(len(scene.boxes), np.float32), v)
        for scene, v in zip(scenes, vectors, strict=True)
    }


def gallery_scenes(protocol: SearchProtocol, scenes: Sequence[Scene]) -> list[Scene]:
    """Those of `scenes` that stand in any gallery of the protocol."""
    # Lazy galleries share their base list; reading it once is enough. The lists are kept, for
    # another one could otherwise get the identity of one that is gone.
    shared: dict[int, tuple[Sequence[str], frozenset[str]]] = {}
    names: set[str] = set()
    for gallery in protocol.galleries:
        if isinstance(gallery, Excluding):
            base, excluded = shared.get(id(gallery.names), (gallery.names, gallery.excluded))
            shared[id(base)] = (base, excluded & gallery.excluded)
        else:
            names.update(gallery)
    for base, excluded in shared.values():
        names.update(name for name in base if name not in excluded)
    return [scene for scene in scenes if scene.name in names]
