"""What a detector and an embedder reach on the real samples of a folder, in a table of figures.

The samples are small (see `personsearch.datasets.real_samples`): they show that a pair of networks
is read and fed rightly, they do not rank systems.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from personsearch.datasets.real_samples import networks, read_real_samples
from personsearch.errors import ModelError
from personsearch.evaluation.comparison import compare
from personsearch.evaluation.detection import DetectionResult, evaluate_detection
from personsearch.evaluation.runner import detect_scenes
from personsearch.external.description import parse_description
from personsearch.systems.base import PersonSearchModel
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
    files = networks(folder)
    detectors = [path for path in files if path.name == "person-detection-0202.xml"]
    embedders = [path for path in files if path.match("osnet*.onnx")]
    if not detectors or not embedders:
        raise ModelError(
            f"{Path(folder) / 'models'}: expected person-detection-0202.xml and an osnet*.onnx; "
            f"found {', '.join(path.name for path in files) or 'none'}"
        )
    table = {
        "detector": {
            "file": str(detectors[0].resolve()),
            "size": {"width": 512, "height": 512},
            "color": "bgr",
            "scale": 255,
            "layout": "ssd",
            "class_index": 0,
            "score_threshold": 0.05,
        },
        "embedder": {
            "file": str(embedders[0].resolve()),
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
    if model is None:
        model = sample_networks(folder)
    detection: list[DetectionFigures] = []
    search: list[SearchFigures] = []
    speed: dict[str, float] = {}
    for data in read_real_samples(folder):
        scenes = data.split("test")
        if progress:
            progress(f"{data.name}: {len(scenes)} pictures")
        detect_scenes(model, scenes[:1])  # the first run of a network is slow
        figures = compare(model, data, list(data.protocols), score_thresholds=thresholds)
        speed[data.name] = len(scenes) / figures.seconds["detect"]
        detection += [
            _detection(data.name, scenes, figures.found, result)
            for result in figures.detection.values()
        ]
        search += [
            SearchFigures(
                data.name,
                row.embeddings,
                row.boxes,
                row.search.num_queries,
                row.search.mean_ap,
                row.search.top_k[1],
            )
            for row in figures.rows
        ]
    return RealFrames(detection, search, speed)


def _detection(
    name: str, scenes: Sequence[Scene], found: Mapping[str, Detections], whole: DetectionResult
) -> DetectionFigures:
    tall = {
        scene.name: scene.boxes[scene.boxes[:, 3] - scene.boxes[:, 1] >= TALL] for scene in scenes
    }
    # Only what was found is read of it: detections of shorter people count as false here.
    tall_only = evaluate_detection(tall, found, score_threshold=whole.score_threshold)
    return DetectionFigures(
        name,
        whole.score_threshold,
        whole.num_ground_truth,
        whole.num_true_positives,
        whole.recall,
        whole.average_precision,
        tall_only.num_ground_truth,
        tall_only.num_true_positives,
    )
