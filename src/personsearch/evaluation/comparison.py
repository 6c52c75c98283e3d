"""Measure a model on a data set, between an upper bound (true boxes) and a lower one (colour)."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from personsearch.classical.hsv_histogram import extract as hsv_histogram
from personsearch.datasets.dataset import Dataset
from personsearch.errors import EvaluationError
from personsearch.evaluation.context_matching import ContextMatching, query_context
from personsearch.evaluation.detection import DetectionResult, evaluate_detection
from personsearch.evaluation.files import SavedDetections
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
from personsearch.types import Detections, FloatArray, Scene, SearchProtocol

Progress = Callable[[str, int, int], None]
"""Called with (step, pictures done, pictures in all)."""

_WITH_CONTEXT = "detected, with context"


@dataclass(frozen=True)
class Row:
    """Search metrics of one embedder on one kind of boxes under one protocol."""

    protocol: str
    embeddings: str  # "model" or "HSV histogram"
    boxes: str  # "detected", "detected, with context" or "ground truth"
    search: SearchResult
    confidence_weighted: bool = False  # whether similarities were multiplied by scores
    other: SearchResult | None = None  # the other weighting; "detected" boxes and cosines only


@dataclass(frozen=True)
class Comparison:
    """Everything that was measured."""

    detection: Mapping[float, DetectionResult]  # by score threshold
    rows: Sequence[Row]  # by protocol: model, model on true boxes, lower bound, with context
    seconds: Mapping[str, float]  # duration of each step
    found: Mapping[str, Detections] = field(repr=False)  # of the model, by scene name
    queries: Mapping[str, FloatArray] = field(repr=False)  # (Q, D) of the model, by protocol
    confidence_weighted: bool = False  # whether the model's similarities were multiplied by scores
    metric: str = "cosine"  # of the model's embeddings

    def row(self, protocol: str, embeddings: str = "model", boxes: str = "detected") -> Row:
        """Return the row of that name."""
        for row in self.rows:
            if (row.protocol, row.embeddings, row.boxes) == (protocol, embeddings, boxes):
                return row
        raise KeyError((protocol, embeddings, boxes))


def compare_saved(
    saved: SavedDetections,
    dataset: Dataset,
    protocols: Sequence[str],
    *,
    split: str = "test",
    score_thresholds: Sequence[float] = (0.5,),
    convention: str = "standard",
    context: tuple[int, int] | None = None,
) -> Comparison:
    """Evaluate detections that other code made (see `evaluation.files`).

    Scenes of the split without detections count as empty. The other arguments are those of
    `compare`.

    Raises:
        DataError: no such split or protocol.
        EvaluationError: no query embeddings for a protocol, scenes that are not in the split, or
            context without the detections in a query's scene.
    """
    chosen = {name: dataset.protocol(name) for name in protocols}
    began = time.perf_counter()
    for name in chosen:
        if name not in saved.queries:
            raise EvaluationError(
                f"no query embeddings for protocol {name!r}; the file has "
                f"{', '.join(map(repr, saved.queries)) or 'none'}"
            )
    scenes = dataset.split(split)
    known = {scene.name for scene in scenes}
    strangers = [name for name in saved.found if name not in known]
    if strangers:
        raise EvaluationError(
            f"{len(strangers)} scenes with detections are not in split {split!r}, the first is "
            f"{strangers[0]!r}; scene names must be those of the data set"
        )
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), None)
    complete = {scene.name: saved.found.get(scene.name, nothing) for scene in scenes}
    weighted, sources = bool(saved.confidence_weighted), [("model", "detected", complete)]
    settings = {"score_threshold": score_thresholds[0], "convention": convention}
    rows: list[Row] = []
    for name, protocol in chosen.items():
        queries = {"model": saved.queries[name]}
        # A query's scene that the file lacks is unknown here, not empty.
        beside = saved.found
        rows += _search(
            name, protocol, queries, sources, beside, context, weighted, saved.metric, **settings
        )
    detection = evaluate_detection(scenes, complete, score_thresholds)
    seconds = {"evaluate": time.perf_counter() - began}
    return Comparison(detection, rows, seconds, complete, saved.queries, weighted, saved.metric)


def compare(
    model: PersonSearchModel,
    dataset: Dataset,
    protocols: Sequence[str],
    *,
    split: str = "test",
    score_thresholds: Sequence[float] = (0.5,),
    convention: str = "standard",
    confidence_weighted: bool | None = None,
    bounds: bool = True,
    context: tuple[int, int] | None = None,
    ranked: int = 0,
    precision: str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Detect once, then search under every protocol.

    Args:
        model: the model to measure.
        dataset: read from disk.
        protocols: names of its protocols.
        split: the scenes that the protocols refer to.
        score_thresholds: lowest scores of detections; search uses the first.
        convention: ``"standard"`` or ``"seqnet"``, see `evaluate_search`.
        confidence_weighted: multiply the model's similarities by the scores of detections; by
            default the model decides. `Row.other` has the other choice.
        bounds: also search on ground-truth boxes, with the model and with an HSV histogram.
        context: k1 and k2 of context bipartite graph matching; adds a row with it.
        ranked: number of hits per query to return.
        precision: see `precision.autocast`.
        progress: called with the progress of each step.

    Raises:
        DataError: no such split or protocol, or a picture that cannot be read.
    """
    model = model.for_inference(precision)  # once for all steps
    scenes = dataset.split(split)
    chosen = {name: dataset.protocol(name) for name in protocols}
    weighted = model.confidence_weighted if confidence_weighted is None else confidence_weighted
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
    detection = evaluate_detection(gallery, found, score_thresholds)
    settings = {"score_threshold": score_thresholds[0], "convention": convention, "ranked": ranked}
    embedders: dict[str, PersonSearchModel] = {"model": model}
    sources: list[_Source] = [("model", "detected", found)]
    if bounds and chosen:
        embedders["HSV histogram"] = TwoStep(None, ExtractorEmbedder(hsv_histogram))
        for label, embedder in embedders.items():
            told = timed("embed ground-truth boxes" if label == "model" else "HSV histograms")
            truth = ground_truth_detections(embedder, gallery, precision=precision, progress=told)
            sources.append((label, "ground truth", truth))
    rows: list[Row] = []
    queries: dict[str, FloatArray] = {}
    for name, protocol in chosen.items():
        told = timed(f"queries of {name}")
        embedded = {
            label: embed_queries(embedder, protocol, scenes, precision=precision, progress=told)
            for label, embedder in embedders.items()
        }
        queries[name] = embedded["model"]
        rows += _search(
            name, protocol, embedded, sources, found, context, weighted, model.metric, **settings
        )
    return Comparison(detection, rows, seconds, found, queries, weighted, model.metric)


_Source = tuple[str, str, Mapping[str, Detections]]
"""`embeddings` and `boxes` of a `Row`, and the gallery."""


def _search(
    name: str,
    protocol: SearchProtocol,
    queries: Mapping[str, FloatArray],
    sources: Sequence[_Source],
    beside_queries: Mapping[str, Detections],
    context: tuple[int, int] | None,
    weighted: bool,
    metric: str,
    **settings: Any,
) -> Iterator[Row]:
    """Search with each source, the first with both weightings, and once more with context."""
    matching = None
    if context is not None:
        least = settings["score_threshold"]
        people = query_context(protocol, queries["model"], beside_queries, score_threshold=least)
        matching = ContextMatching(people, *context)
        sources = [*sources, ("model", _WITH_CONTEXT, sources[0][2])]
    for embeddings, boxes, gallery in sources:
        choice = weighted and embeddings == "model"
        by = metric if embeddings == "model" else "cosine"
        # Only cosines can be weighted.
        both = boxes == "detected" and by == "cosine"
        results = [
            evaluate_search(
                protocol,
                gallery,
                queries[embeddings],
                confidence_weighted=weigh,
                metric=by,
                context=matching if boxes == _WITH_CONTEXT else None,
                **settings,
            )
            for weigh in ((choice, not choice) if both else (choice,))
        ]
        yield Row(name, embeddings, boxes, results[0], choice, *results[1:])
