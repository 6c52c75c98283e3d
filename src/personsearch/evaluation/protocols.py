"""Variants of a protocol: ground-truth boxes in place of detections, and smaller galleries."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from personsearch.errors import EvaluationError
from personsearch.types import Detections, Scene, SearchProtocol


def ground_truth_gallery(
    scenes: Sequence[Scene], embeddings: Sequence[ArrayLike]
) -> dict[str, Detections]:
    """Return the annotated boxes of each scene as detections of score 1.

    `embeddings` are (N, D) for each scene, one row per annotated box.

    Raises:
        EvaluationError: another number of scenes, or two of one name.
        DataError: another number of embeddings than boxes in a scene.
    """
    if len(scenes) != len(embeddings):
        raise EvaluationError(f"{len(scenes)} scenes but embeddings of {len(embeddings)}")
    gallery: dict[str, Detections] = {}
    for scene, vectors in zip(scenes, embeddings, strict=True):
        if scene.name in gallery:
            raise EvaluationError(f"two scenes are named {scene.name!r}; names must be unique")
        gallery[scene.name] = Detections(scene.boxes, np.ones(len(scene.boxes)), vectors)
    return gallery


def with_gallery_size(protocol: SearchProtocol, size: int, seed: int = 0) -> SearchProtocol:
    """Return the same queries with smaller galleries: all targets, and random other scenes.

    Galleries of one seed are nested: each holds every smaller one, so that a curve over sizes shows
    the effect of distractors alone.

    Args:
        protocol: a protocol with large galleries.
        size: scenes in each gallery. A query with more targets keeps them all, and a gallery with
            fewer scenes stays as it is.
        seed: of the draw.

    Raises:
        EvaluationError: a size below 1.
    """
    if size < 1:
        raise EvaluationError(f"gallery size is {size}, expected at least 1")
    galleries = []
    for index, (names, targets) in enumerate(
        zip(protocol.galleries, protocol.targets, strict=True)
    ):
        listed = list(dict.fromkeys(names))
        others = [name for name in listed if name not in targets]
        drawn = np.random.default_rng([seed, index]).permutation(len(others))
        keep = set(targets) | {others[k] for k in drawn[: max(size - len(targets), 0)].tolist()}
        galleries.append([name for name in listed if name in keep])
    return replace(protocol, name=f"{protocol.name}, gallery {size}", galleries=galleries)
