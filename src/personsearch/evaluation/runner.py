"""Runs a model over scenes: detections for the gallery, embeddings for the queries."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from personsearch.datasets.pictures import read_scene
from personsearch.datasets.training_set import to_tensor
from personsearch.errors import DataError
from personsearch.systems.base import PersonSearchModel
from personsearch.training.precision import autocast
from personsearch.types import Detections, FloatArray, Scene, SearchProtocol

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


def _in_evaluation(model: PersonSearchModel) -> torch.device:
    model.eval()
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _chunks(scenes: Sequence[Scene], size: int) -> Iterator[Sequence[Scene]]:
    for start in range(0, len(scenes), size):
        yield scenes[start : start + size]


@torch.inference_mode()
def detect_scenes(
    model: PersonSearchModel,
    scenes: Sequence[Scene],
    *,
    batch_size: int = 4,
    precision: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Detections]:
    """Everyone whom the model finds in each scene, by scene name."""
    device = _in_evaluation(model)
    found: dict[str, Detections] = {}
    for chunk in _chunks(scenes, batch_size):
        images = [to_tensor(read_scene(scene)).to(device) for scene in chunk]
        with autocast(device, precision):
            found.update(zip((s.name for s in chunk), model.detect(images), strict=True))
        if progress:
            progress(len(found), len(scenes))
    return found


@torch.inference_mode()
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
    device = _in_evaluation(model)
    embedded: list[FloatArray] = []
    for start in range(0, len(scenes), batch_size):
        chunk = scenes[start : start + batch_size]
        images = [to_tensor(read_scene(scene)).to(device) for scene in chunk]
        given = [torch.from_numpy(b).to(device) for b in boxes[start : start + batch_size]]
        with autocast(device, precision):
            vectors = model.embed(images, given)
        embedded += [v.float().cpu().numpy() for v in vectors]
        if progress:
            progress(len(embedded), len(scenes))
    return embedded


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
    model: PersonSearchModel, scenes: Sequence[Scene], *, batch_size: int = 4
) -> dict[str, Detections]:
    """The annotated boxes of each scene as detections of score 1: the detector's upper bound."""
    vectors = embed_scenes(model, scenes, [s.boxes for s in scenes], batch_size=batch_size)
    return {
        scene.name: Detections(scene.boxes, np.ones(len(scene.boxes), np.float32), v)
        for scene, v in zip(scenes, vectors, strict=True)
    }


def gallery_scenes(protocol: SearchProtocol, scenes: Sequence[Scene]) -> list[Scene]:
    """Those of `scenes` that stand in any gallery of the protocol."""
    names: set[str] = set()
    seen: set[int] = set()
    for gallery in protocol.galleries:
        # Lazy galleries share their base list; reading it once is enough.
        base = getattr(gallery, "names", gallery)
        if id(base) not in seen:
            seen.add(id(base))
            names.update(base)
    return [scene for scene in scenes if scene.name in names]


def detections_of(
    found: Mapping[str, Detections], scenes: Sequence[Scene]
) -> Mapping[str, Detections]:
    """The detections of some scenes alone."""
    return {scene.name: found[scene.name] for scene in scenes}
