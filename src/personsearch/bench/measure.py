"""The metrics of one trained model on one data set.

A metric's name says what and, after an @, where: ``mean_ap`` is of detected people under the
protocol that is asked for or else the data set's first, ``mean_ap@truth`` on annotated boxes,
``top_1@gallery-25`` under that protocol, ``mean_ap@same-camera`` in the query's own camera,
``top_1@recall-70`` with the score threshold at which 70 % of all people are found,
``mean_ap@boxes-5`` with that which leaves five detections a picture on average and ``mean_ap@boxes-
best`` with the better of `BOXES`, ``mean_ap@without-detection`` with whole pictures for people,
``mean_ap@gallery-25@truth`` on annotated boxes under that protocol. Similarities are multiplied by
the scores of detections if the model says so; ``mean_ap@weighted`` and ``mean_ap@plain`` are with
and without, from the same detections, and so are ``mean_ap@gallery-25@weighted`` and
``mean_ap@gallery-25@plain``. ``precision_30`` is the precision of search at a recall of 30 %,
``detection_precision_30`` that of detection, ``identity_accuracy`` the share of annotated training
people that the identity loss classifies correctly. All are 0..1 unless the name says otherwise;
``score_threshold`` is the lowest score of the detections that are searched.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from personsearch.datasets.dataset import Dataset
from personsearch.datasets.protocols import make_protocol
from personsearch.errors import DataError, ModelError
from personsearch.evaluation.detection import DetectionResult, evaluate_detection
from personsearch.evaluation.runner import (
    detect_scenes,
    embed_queries,
    embed_scenes,
    ground_truth_detections,
)
from personsearch.evaluation.search import SearchResult, evaluate_search
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections, Scene, SearchProtocol

RECALLS = (40, 50, 60, 70, 80, 90)
"""Detection recalls, in per cent, at which search is measured too."""

BOXES = (3, 5)
"""Average numbers of detections in a picture with which search is measured too (PRW's protocol)."""

CURVE = range(0, 101, 10)
"""Recalls, in per cent, at which the precisions of search and detection are measured."""


def measure(
    model: PersonSearchModel,
    dataset: Dataset,
    *,
    protocol: str = "",
    score_threshold: float = 0.5,
    precision: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,  # step, pictures done, in all
) -> dict[str, float]:
    """Measure a model on the test split; detections below `score_threshold` are not searched."""
    scenes = dataset.split("test")
    usual = usual_protocol(dataset, protocol)
    report = progress or (lambda step, done, total: None)
    began = time.perf_counter()
    found = detect_scenes(model, scenes, precision=precision, progress=partial(report, "search"))
    seconds = time.perf_counter() - began
    detection = evaluate_detection(scenes, found, score_threshold=score_threshold)
    truth = ground_truth_detections(
        model, scenes, precision=precision, progress=partial(report, "ground truth")
    )
    # Queries that are annotated boxes were embedded already.
    rows = {
        (scene.name, box.tobytes()): vector
        for scene in scenes
        for box, vector in zip(scene.boxes, truth[scene.name].embeddings, strict=True)
    }

    def search(
        where: str,
        protocol: SearchProtocol,
        gallery: Mapping[str, Detections],
        threshold: float,
        both: bool = False,  # with and without confidence weighting, which only cosines allow
    ) -> dict[str, float]:
        keys = [(query.scene, query.box.tobytes()) for query in protocol.queries]
        queries = (
            np.stack([rows[key] for key in keys])
            if all(key in rows for key in keys)
            else embed_queries(model, protocol, scenes, precision=precision)
        )
        named: dict[str, float] = {}
        choices = (True, False) if model.metric == "cosine" else (False,)
        for weighted in choices if both else (model.confidence_weighted,):
            result = evaluate_search(
                protocol,
                gallery,
                queries,
                score_threshold=threshold,
                confidence_weighted=weighted,
                metric=model.metric,
            )
            if both:
                named |= _named(result, where, "weighted" if weighted else "plain")
            if weighted == model.confidence_weighted:
                named |= _named(result, where)
                if protocol is usual and not where:
                    points = result.precision_at([percent / 100 for percent in CURVE])
                    named |= {
                        f"precision_{p}": float(x) for p, x in zip(CURVE, points, strict=True)
                    }
        return named

    metrics = {
        "detection_ap": float(detection.average_precision),
        "detection_recall": float(detection.recall),
        "search_images_per_second": len(scenes) / seconds,
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "score_threshold": score_threshold,
    }
    searched = search("", usual, found, score_threshold, both=True)
    metrics |= searched
    metrics |= search("truth", usual, truth, 0.0)
    for name, other in (*dataset.protocols.items(), ("same-camera", same_camera(usual, scenes))):
        if other is usual:
            parts = [(*key.partition("@"), value) for key, value in searched.items()]
            metrics |= {f"{what}@{name}{at}{how}": value for what, at, how, value in parts}
        elif other is not None:
            metrics |= search(name, other, found, score_threshold, both=True)
        if other is not None and name.startswith("gallery-"):
            metrics |= search(f"{name}@truth", other, truth, 0.0)
    every = evaluate_detection(scenes, found, score_threshold=0.0)
    for percent in CURVE:
        reached = every.curve_precision[every.curve_recall >= percent / 100]
        metrics[f"detection_precision_{percent}"] = float(reached.max(initial=0.0))
    for percent in RECALLS:
        threshold = threshold_at(every, percent / 100)
        if threshold is not None:
            metrics |= search(f"recall-{percent}", usual, found, threshold)
    for count in BOXES:
        metrics |= search(f"boxes-{count}", usual, found, threshold_of(found.values(), count))
    best = max(BOXES, key=lambda count: metrics[f"mean_ap@boxes-{count}"])
    return metrics | {
        key.replace(f"@boxes-{best}", "@boxes-best"): value
        for key, value in metrics.items()
        if key.endswith(f"@boxes-{best}")
    }


def without_detection(
    model: PersonSearchModel, dataset: Dataset, protocol: str = "", *, precision: str = "auto"
) -> dict[str, float]:
    """Search for pictures instead of people: ``mean_ap@without-detection`` and top-k.

    Each gallery picture is embedded as one detection, which is right when the picture shows the
    query's person; queries keep their boxes.
    """
    scenes, usual = dataset.split("test"), usual_protocol(dataset, protocol)
    whole = {s.name: np.array([[0, 0, *s.size]], dtype=np.float32) for s in scenes}
    vectors = embed_scenes(model, scenes, list(whole.values()), precision=precision)
    gallery = {
        scene.name: Detections(whole[scene.name], np.ones(1, np.float32), vector)
        for scene, vector in zip(scenes, vectors, strict=True)
    }
    pictures = SearchProtocol(
        name="without-detection",
        queries=usual.queries,
        galleries=usual.galleries,
        targets=[{name: whole[name][0] for name in targets} for targets in usual.targets],
    )
    queries = embed_queries(model, usual, scenes, precision=precision)
    found = evaluate_search(pictures, gallery, queries, metric=model.metric)
    return _named(found, "without-detection")


def identity_accuracy(
    model: PersonSearchModel, scenes: Sequence[Scene], *, precision: str = "auto"
) -> dict[str, float]:
    """Classify the people of training scenes: ``identity_accuracy`` (Zhang et al. 2019, 6.1.1).

    Annotated boxes with an identity are embedded, and the class of the highest score is taken.

    Raises:
        ModelError: the model has no classes of identities.
    """
    # By name: runs of other systems do not depend on the code of these losses.
    reid = getattr(model, "reid", None)
    if reid is None or not hasattr(reid, "scores"):
        raise ModelError(f"{type(model).__name__} has no classes of identities to measure")
    known = [scene.ids >= 0 for scene in scenes]
    boxes = [scene.boxes[rows] for scene, rows in zip(scenes, known, strict=True)]
    embeddings = np.concatenate(embed_scenes(model, scenes, boxes, precision=precision))
    ids = np.concatenate([scene.ids[rows] for scene, rows in zip(scenes, known, strict=True)])
    device = next(reid.buffers()).device
    with torch.no_grad():
        named = reid.scores(torch.from_numpy(embeddings).to(device)).argmax(dim=1).cpu().numpy()
    return {"identity_accuracy": float((named == ids).mean())}


def same_camera(protocol: SearchProtocol, scenes: Sequence[Scene]) -> SearchProtocol | None:
    """Return the queries over other scenes of their own camera; None if nobody is seen twice."""
    by_camera: dict[int | None, list[str]] = {}
    for scene in scenes:
        if scene.camera is not None:
            by_camera.setdefault(scene.camera, []).append(scene.name)
    queries = [query for query in protocol.queries if query.camera in by_camera]
    galleries = [
        [name for name in by_camera[query.camera] if name != query.scene] for query in queries
    ]
    made = make_protocol("same-camera", scenes, queries, galleries)
    return made if any(made.targets) else None


def threshold_at(detection: DetectionResult, recall: float) -> float | None:
    """Return the highest score threshold that reaches this recall; None if none does."""
    enough = np.flatnonzero(detection.curve_recall >= recall)
    return float(detection.curve_scores[enough[0]]) if len(enough) else None


def threshold_of(found: Iterable[Detections], count: int) -> float:
    """Return the score threshold that leaves `count` detections a picture on average, or all."""
    scores = [one.scores for one in found]
    most = np.sort(np.concatenate(scores))[::-1][: count * len(scores)]
    return float(most[-1]) if len(most) else 0.0


def usual_protocol(dataset: Dataset, name: str = "") -> SearchProtocol:
    """Return the protocol of that name, or the first that has queries; DataError without one."""
    if name:
        return dataset.protocol(name)
    if found := next((p for p in dataset.protocols.values() if len(p.queries)), None):
        return found
    raise DataError(
        f"data set {dataset.name!r} at {dataset.root} has no search protocol with queries; "
        "there is nothing to measure"
    )


def _named(result: SearchResult, *where: str) -> dict[str, float]:
    at = "".join(f"@{part}" for part in where if part)
    named = {f"mean_ap{at}": float(result.mean_ap)}
    return named | {f"top_{k}{at}": float(value) for k, value in result.top_k.items()}
