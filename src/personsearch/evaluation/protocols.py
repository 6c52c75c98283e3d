"""Variants of a protocol: ground-truth boxes in place of detections, and smaller galleries.

What makes a protocol from annotated scenes is in `personsearch.datasets.protocols`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from personsearch.errors import EvaluationError
from personsearch.types import Detections, Scene, SearchProtocol


def ground_truth_gallery(
    scenes: Sequence[Scene], embeddings: Sequence[ArrayLike]
) -> dict[str, Detections]:
    """The annotated boxes of each scene as detections of score 1: the detector's upper bound.

    Args:
        scenes: S of them.
        embeddings: per scene (N, D), a row for each annotated box.

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
    """The same queries in smaller galleries: all targets, and other pictures drawn by chance.

    Galleries of one seed are nested: what is in the gallery of a size is in that of every larger
    size, so that a curve over sizes shows the effect of distractors and nothing else.

    Args:
        protocol: the large one.
        size: pictures in each gallery. A query with more targets than that keeps them all, and a
            gallery that has fewer pictures stays as it is.
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
    return SearchProtocol(
        name=f"{protocol.name}, gallery {size}",
        queries=protocol.queries,
        galleries=galleries,
        targets=protocol.targets,
        ignored=protocol.ignored,
        average_precision=protocol.average_precision,
        annotated=protocol.annotated,
    )
