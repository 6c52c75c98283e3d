"""What a detector and an embedder reach on the real samples of a folder, in a table of figures.

The samples are small (see `personsearch.datasets.real_samples`): they show that a pair of networks
is read and fed rightly, they do not rank systems.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.classical.hsv_histogram import extract as hsv_histogram
from personsearch.datasets.dataset import Dataset
from personsearch.datasets.real_samples import networks, read_real_samples
from personsearch.detectors.description import parse_description
from personsearch.errors import ModelError
from personsearch.evaluation.detection import evaluate_detection
from personsearch.evaluation.runner import detect_scenes, embed_queries, ground_truth_detections
from personsearch.evaluation.search import evaluate_search
from personsearch.systems.base import PersonSearchModel
from personsearch.systems.crop_embedders import ExtractorEmbedder
from personsearch.systems.two_step import TwoStep, from_description
from personsearch.types import Detections, Scene

TALL = 200
"""People of at least so many pixels are counted apart, too."""


@dataclass(frozen=True)
class DetectionFigures:
    """One row: how well people are found at one score threshold."""

    data: str
    score_threshold: float
    people: int
    found: int
    recall: float
    average_precision: float
    tall_people: int
    tall_found: int


@dataclass(frozen=True)
class SearchFigures:
    """One row: how well people are searched with one embedder on one kind of boxes."""

    data: str
    embedder: str
    boxes: str
    queries: int
    mean_ap: float
    top_1: float


@dataclass(frozen=True)
class RealFrames:
    """Everything measured. `pictures_per_second` covers reading, detection and embedding."""

    detection: list[DetectionFigures]
    search: list[SearchFigures]
    pictures_per_second: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return asdict(self)


def sample_networks(folder: Path) -> TwoStep:
    """The detector and embedder in a folder's ``models``: one of Open Model Zoo, one of OSNet.

    Raises:
        ModelError: they are missing, or need a runtime that is not installed.
    """
    files = {path.suffix: path for path in networks(folder)}
    if set(files) != {".xml", ".onnx"}:
        raise ModelError(
            f"{Path(folder) / 'models'}: expected person-detection-0202.xml and an OSNet .onnx; "
            f"found {', '.join(path.name for path in files.values()) or 'none'}"
        )
    table = {
        "detector": {
            "file": str(files[".xml"].resolve()),
            "size": {"width": 512, "height": 512},
            "color": "bgr",
            "scale": 255,
            "layout": "ssd",
            "class_index": 0,
            "score_threshold": 0.05,
        },
        "embedder": {
            "file": str(files[".onnx"].resolve()),
            "size": {"width": 128, "height": 256},
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    return from_description(parse_description(table, "sample networks"))


def measure(
    folder: Path,
    model: PersonSearchModel | None = None,
    *,
    thresholds: Sequence[float] = (0.5, 0.3),
    progress: Callable[[str], None] | None = None,
) -> RealFrames:
    """Detection, search and speed on every sample of a folder.

    Args:
        folder: as `read_real_samples` takes it.
        model: what is measured; None takes the two networks in the folder's ``models``.
        thresholds: detection scores; the first is the one of the search.
        progress: called with what is about to be measured.

    Raises:
        DataError: no samples, or damaged ones.
        ModelError: no networks, or a network fails.
    """
    model = model or sample_networks(folder)
    floor = TwoStep(None, ExtractorEmbedder(hsv_histogram))
    detection: list[DetectionFigures] = []
    search: list[SearchFigures] = []
    speed: dict[str, float] = {}
    for data in read_real_samples(folder):
        scenes = data.split("test")
        if progress:
            progress(f"{data.name}: {len(scenes)} pictures")
        detect_scenes(model, scenes[:1])  # the first run of a network is slow
        start = time.perf_counter()
        found = detect_scenes(model, scenes)
        speed[data.name] = len(scenes) / (time.perf_counter() - start)
        detection += [_detection(data.name, scenes, found, value) for value in thresholds]
        truth = ground_truth_detections(model, scenes)
        histograms = ground_truth_detections(floor, scenes)
        for boxes, system, gallery in (
            ("detected", model, found),
            ("ground truth", model, truth),
            ("ground truth", floor, histograms),
        ):
            embedder = "HSV histogram" if system is floor else "network"
            search += _search(data, system, embedder, boxes, gallery, thresholds[0])
    return RealFrames(detection, search, speed)


def _detection(
    name: str, scenes: Sequence[Scene], found: dict[str, Detections], threshold: float
) -> DetectionFigures:
    truth = {scene.name: scene.boxes for scene in scenes}
    whole = evaluate_detection(truth, found, score_threshold=threshold)
    tall = {key: boxes[boxes[:, 3] - boxes[:, 1] >= TALL] for key, boxes in truth.items()}
    # Only its recall is read: detections of shorter people count as false here.
    tall_only = evaluate_detection(tall, found, score_threshold=threshold)
    people, tall_people = (sum(len(b) for b in boxes.values()) for boxes in (truth, tall))
    return DetectionFigures(
        name,
        threshold,
        people,
        round(whole.recall * people),
        whole.recall,
        whole.average_precision,
        tall_people,
        round(tall_only.recall * tall_people) if tall_people else 0,
    )


def _search(
    data: Dataset,
    model: PersonSearchModel,
    embedder: str,
    boxes: str,
    gallery: dict[str, Detections],
    threshold: float,
) -> list[SearchFigures]:
    figures = []
    for protocol in data.protocols.values():
        queries = np.asarray(embed_queries(model, protocol, data.split("test")))
        result = evaluate_search(
            protocol,
            gallery,
            queries,
            score_threshold=threshold,
            confidence_weighted=model.confidence_weighted,
        )
        figures.append(
            SearchFigures(
                data.name, embedder, boxes, result.num_queries, result.mean_ap, result.top_k[1]
            )
        )
    return figures
