"""Runs a model over scenes: detections for the gallery, embeddings for the queries."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict, TypeVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from personsearch.datasets.galleries import Excluding
from personsearch.errors import DataError, naming_settings
from personsearch.evaluation.protocols import ground_truth_gallery
from personsearch.media.pictures import read_scene
from personsearch.systems.base import PersonSearchModel, device_of
from personsearch.systems.inference import size_settings, to_images
from personsearch.types import Detections, FloatArray, Scene, SearchProtocol

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""

_T = TypeVar("_T")


class RunOptions(TypedDict, total=False):
    """Keyword arguments of every run: pictures per batch (4), `precision.autocast`'s precision
    ("auto"), and a callback.
    """

    batch_size: int
    precision: str
    progress: Progress | None


def _batches(scenes: Sequence[Scene], size: int) -> Iterator[list[int]]:
    """Rows of scenes of one size: padding would make a picture depend on its neighbours."""
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
    step: Callable[[PersonSearchModel, list[Tensor], list[int]], Sequence[_T]],
    *,
    batch_size: int = 4,
    precision: str = "auto",
    progress: Progress | None = None,
) -> list[_T]:
    """Apply `step` to batches of pictures and their rows; return its results in scene order."""
    model = model.for_inference(precision)
    device = device_of(model)
    done: dict[int, _T] = {}
    named = {"batch_size": batch_size} | size_settings(model)
    for rows, pictures in _read_ahead(scenes, _batches(scenes, batch_size)):
        with model.autocast(), naming_settings(named):
            images = to_images(pictures, device)
            done.update(zip(rows, step(model, images, rows), strict=True))
        if progress:
            progress(len(done), len(scenes))
    return [done[row] for row in range(len(scenes))]


def _read_ahead(
    scenes: Sequence[Scene], batches: Iterable[list[int]]
) -> Iterator[tuple[list[int], list[NDArray[np.uint8]]]]:
    """Yield batches of rows and their pictures; the next is decoded while one is in use."""

    def read(rows: list[int]) -> list[NDArray[np.uint8]]:
        return [read_scene(scenes[row]) for row in rows]

    with ThreadPoolExecutor(1) as thread:
        jobs = ((rows, thread.submit(read, rows)) for rows in batches)
        following = next(jobs, None)
        while following:
            (rows, job), following = following, next(jobs, None)
            yield rows, job.result()


def detect_scenes(
    model: PersonSearchModel, scenes: Sequence[Scene], **options: Unpack[RunOptions]
) -> dict[str, Detections]:
    """Return the model's detections by scene name."""
    found = _run(model, scenes, lambda form, images, rows: form.detect(images), **options)
    return {scene.name: one for scene, one in zip(scenes, found, strict=True)}


def embed_scenes(
    model: PersonSearchModel,
    scenes: Sequence[Scene],
    boxes: Sequence[FloatArray],
    **options: Unpack[RunOptions],
) -> list[FloatArray]:
    """Return the embeddings (N_i, D) of given boxes (N_i, 4) in each scene."""

    def embed(form: PersonSearchModel, images: list[Tensor], rows: list[int]) -> list[FloatArray]:
        # Copied, since boxes may be read-only.
        given = [torch.tensor(boxes[row], device=images[0].device) for row in rows]
        return [vectors.float().cpu().numpy() for vectors in form.embed(images, given)]

    return _run(model, scenes, embed, **options)


def embed_queries(
    model: PersonSearchModel,
    protocol: SearchProtocol,
    scenes: Sequence[Scene],
    **options: Unpack[RunOptions],
) -> FloatArray:
    """Return the embeddings (Q, D) of a protocol's queries, reading each query scene once.

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
    vectors = embed_scenes(model, [by_name[name] for name in rows], boxes, **options)
    result = np.zeros((len(protocol.queries), model.embedding_dim), dtype=np.float32)
    for r, v in zip(rows.values(), vectors, strict=True):
        result[r] = v
    return result


def ground_truth_detections(
    model: PersonSearchModel, scenes: Sequence[Scene], **options: Unpack[RunOptions]
) -> dict[str, Detections]:
    """Return the annotated boxes as detections of score 1: the upper bound of the detector."""
    vectors = embed_scenes(model, scenes, [scene.boxes for scene in scenes], **options)
    return ground_truth_gallery(scenes, vectors)


def gallery_scenes(protocol: SearchProtocol, scenes: Sequence[Scene]) -> list[Scene]:
    """Return those of `scenes` that are in any gallery of the protocol."""
    # Lazy galleries share their base list; reading it once is enough. The lists are kept so that
    # no other list can get the identity of a deleted one.
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
