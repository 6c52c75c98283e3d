"""One model on one data set, between its bounds: ground-truth boxes above, colour alone below."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from personsearch.classical.hsv_histogram import extract as hsv_histogram
from personsearch.datasets.dataset import Dataset
from personsearch.errors import EvaluationError
from personsearch.evaluation.context_matching import ContextMatching, query_context
from personsearch.evaluation.detection import DetectionResult, evaluate_detection
from personsearch.evaluation.runner import (
    detect_scenes,
    embed_queries,
    gallery_scenes,
    ground_truth_detections,
)
from personsearch.evaluation.search import SearchResult, evaluate_search
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.crop_embedders import ExtractorEmbedder
from personsearch.systems.two_step import TwoStep
from personsearch.types import Detections, FloatArray, Scene

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, pictures done, pictures in all)."""


@dataclass(frozen=True)
class Row:
    """Search figures of one embedder on one kind of boxes under one protocol.

    Attributes:
        protocol: its name.
        embeddings: ``"model"`` or ``"HSV histogram"``.
        boxes: ``"detected"``, ``"detected, with context"`` or ``"ground truth"``.
        search: the figures, per query and in the mean.
    """

    protocol: str
    embeddings: str
    boxes: str
    search: SearchResult


@dataclass(frozen=True)
class Comparison:
    """Everything that was measured.

    Attributes:
        detection: by score threshold.
        rows: protocol by protocol: the model, the model on ground-truth boxes, the floor.
        seconds: how long each step took.
        found: what the model detected, by scene name.
        queries: the model's query embeddings (Q, D), by protocol.
    """

    detection: Mapping[float, DetectionResult]
    rows: Sequence[Row]
    seconds: Mapping[str, float]
    found: Mapping[str, Detections] = field(repr=False)
    queries: Mapping[str, FloatArray] = field(repr=False)

    def row(self, protocol: str, embeddings: str = "model", boxes: str = "detected") -> Row:
        """The row of that name."""
        for row in self.rows:
            if (row.protocol, row.embeddings, row.boxes) == (protocol, embeddings, boxes):
                return row
        raise KeyError((protocol, embeddings, boxes))


def compare_saved(
    found: Mapping[str, Detections],
    queries: Mapping[str, FloatArray],
    dataset: Dataset,
    protocols: Sequence[str],
    *,
    split: str = "test",
    score_thresholds: Sequence[float] = (0.5,),
    convention: str = "standard",
) -> Comparison:
    """The figures of detections that were made elsewhere (see `evaluation.files`).

    Args:
        found: detections by scene name; scenes of the split that are not named count as empty.
        queries: embeddings (Q, D) by protocol name, in the protocol's order.
        dataset, protocols, split, score_thresholds, convention: as in `compare`.

    Raises:
        DataError: no such split or protocol.
        EvaluationError: no query embeddings for a protocol.
    """
    chosen = {name: dataset.protocol(name) for name in protocols}
    began = time.perf_counter()
    for name in chosen:
        if name not in queries:
            raise EvaluationError(
                f"no query embeddings for protocol {name!r}; the file has "
                f"{', '.join(map(repr, queries)) or 'none'}"
            )
    scenes = dataset.split(split)
    known = {scene.name for scene in scenes}
    strangers = [name for name in found if name not in known]
    if strangers:
        raise EvaluationError(
            f"{len(strangers)} scenes with detections are not in split {split!r}, the first is "
            f"{strangers[0]!r}; scene names must be those of the data set"
        )
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), None)
    complete = {scene.name: found.get(scene.name, nothing) for scene in scenes}
    rows = [
        Row(
            name,
            "model",
            "detected",
            evaluate_search(
                protocol,
                complete,
                queries[name],
                score_threshold=score_thresholds[0],
                convention=convention,
            ),
        )
        for name, protocol in chosen.items()
    ]
    detection = _detection(scenes, complete, score_thresholds)
    seconds = {"evaluate": time.perf_counter() - began}
    return Comparison(detection, rows, seconds, complete, dict(queries))


def _detection(
    scenes: Sequence[Scene], found: Mapping[str, Detections], thresholds: Sequence[float]
) -> dict[float, DetectionResult]:
    return {
        threshold: evaluate_detection(scenes, found, score_threshold=threshold)
        for threshold in thresholds
    }


def compare(
    model: PersonSearchModel,
    dataset: Dataset,
    protocols: Sequence[str],
    *,
    split: str = "test",
    score_thresholds: Sequence[float] = (0.5,),
    convention: str = "standard",
    bounds: bool = True,
    context: tuple[int, int] | None = None,
    ranked: int = 0,
    precision: str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Detects once, then searches under every protocol.

    Args:
        model: what is measured.
        dataset: read from disk.
        protocols: names of its protocols.
        split: the scenes that the protocols speak of.
        score_thresholds: of detections; the first is the one of the search.
        convention: of the evaluator.
        bounds: also search on ground-truth boxes, with the model and with an HSV histogram.
        context: k1 and k2 of context bipartite graph matching; adds a row with it.
        ranked: how many hits of each query the results keep.
        precision: of the network, see `training.precision.autocast`.
        progress: told how far each step is.

    Raises:
        DataError: no such split or protocol, or a picture that cannot be read.
    """
    scenes = dataset.split(split)
    chosen = {name: dataset.protocol(name) for name in protocols}
    seconds: dict[str, float] = {}

    def timed(step: str) -> Callable[[int, int], None]:
        began = time.perf_counter()

        def tell(done: int, total: int) -> None:
            seconds[step] = time.perf_counter() - began
            if progress:
                progress(step, done, total)

        return tell

    wanted = {s.name for p in chosen.values() for s in gallery_scenes(p, scenes)}
    wanted |= {query.scene for p in chosen.values() for query in p.queries}
    gallery: list[Scene] = [s for s in scenes if s.name in wanted] if chosen else list(scenes)
    found = detect_scenes(model, gallery, precision=precision, progress=timed("detect"))
    detection = _detection(gallery, found, score_thresholds)
    sources: list[tuple[PersonSearchModel, str, str, Mapping[str, Detections]]] = [
        (model, "model", "detected", found)
    ]
    if bounds and chosen:
        floor = TwoStep(None, ExtractorEmbedder(hsv_histogram))
        truth = ground_truth_detections(
            model, gallery, precision=precision, progress=timed("embed ground-truth boxes")
        )
        colours = ground_truth_detections(floor, gallery, progress=timed("HSV histograms"))
        sources += [
            (model, "model", "ground truth", truth),
            (floor, "HSV histogram", "ground truth", colours),
        ]
    rows: list[Row] = []
    queries: dict[str, FloatArray] = {}
    for name, protocol in chosen.items():
        embedded = {
            id(source): embed_queries(
                source, protocol, scenes, precision=precision, progress=timed(f"queries of {name}")
            )
            for source in dict.fromkeys(source for source, *_ in sources)
        }
        queries[name] = embedded[id(model)]
        for source, embeddings, boxes, detections in sources:
            result = evaluate_search(
                protocol,
                detections,
                embedded[id(source)],
                score_threshold=score_thresholds[0],
                convention=convention,
                confidence_weighted=source.confidence_weighted,
                ranked=ranked,
            )
            rows.append(Row(name, embeddings, boxes, result))
        if context is not None:
            people = query_context(
                protocol, queries[name], found, score_threshold=score_thresholds[0]
            )
            result = evaluate_search(
                protocol,
                found,
                queries[name],
                score_threshold=score_thresholds[0],
                convention=convention,
                confidence_weighted=model.confidence_weighted,
                context=ContextMatching(people, *context),
                ranked=ranked,
            )
            rows.append(Row(name, "model", "detected, with context", result))
    return Comparison(detection, rows, seconds, found, queries)
