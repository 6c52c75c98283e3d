"""Measure detection and search on a folder of real samples.

    python benchmarks/real_frames.py --data FOLDER [--model CHECKPOINT_OR_TOML] [--json]

The folder is described in `personsearch.demo.real_samples`. The samples are small: they show that
the networks are fed correctly, they rank no systems. Each search is also measured with an HSV
histogram as the embedder, which a system has to beat.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from personsearch.demo.real_samples import read_real_samples, sample_networks
from personsearch.errors import PersonSearchError
from personsearch.evaluation.comparison import compare
from personsearch.evaluation.detection import DetectionResult, evaluate_detection
from personsearch.evaluation.runner import detect_scenes
from personsearch.loading import load
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections, Scene

TALL = 200
"""Smallest height in pixels of people who are also counted on their own."""


@dataclass(frozen=True)
class DetectionRow:
    """Detection metrics at one score threshold."""

    data: str
    score_threshold: float
    people: int
    found: int
    recall: float
    average_precision: float
    tall_people: int
    tall_found: int


@dataclass(frozen=True)
class SearchRow:
    """Search metrics of one embedder on one kind of boxes."""

    data: str
    embedder: str
    boxes: str
    queries: int
    mean_ap: float
    top_1: float


@dataclass(frozen=True)
class RealFrames:
    """All measurements. `pictures_per_second` covers reading, detection and embedding."""

    detection: list[DetectionRow]
    search: list[SearchRow]
    pictures_per_second: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return asdict(self)


def main() -> int:
    """Measure and print; 0 on success, 1 on a failure of data or model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of real samples")
    parser.add_argument("--model", type=Path, help="default: the networks in the folder")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        model = None if given.model is None else load(given.model)
        measured = measure(given.data, model, progress=lambda text: print(text, file=sys.stderr))
    except PersonSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(measured.as_json(), indent=2))
    else:
        print_tables(measured)
    return 0


def measure(
    folder: Path,
    model: PersonSearchModel | None = None,
    *,
    thresholds: Sequence[float] = (0.5, 0.3),
    progress: Callable[[str], None] | None = None,
) -> RealFrames:
    """Measure detection, search and speed on every sample of a folder.

    Args:
        folder: see `personsearch.demo.real_samples`.
        model: the model; by default the two networks in the folder's ``models``.
        thresholds: detection scores; search uses the first.
        progress: called with what is measured next.

    Raises:
        DataError: there are no samples, or damaged ones.
        ModelError: there are no networks, or one fails.
    """
    if model is None:
        model = sample_networks(folder)
    detection: list[DetectionRow] = []
    search: list[SearchRow] = []
    speed: dict[str, float] = {}
    for data in read_real_samples(folder):
        scenes = data.split("test")
        if progress:
            progress(f"{data.name}: {len(scenes)} pictures")
        detect_scenes(model, scenes[:1])  # the first run of a network is slow
        compared = compare(model, data, list(data.protocols), score_thresholds=thresholds)
        speed[data.name] = len(scenes) / compared.seconds["detect"]
        detection += [
            _detection(data.name, scenes, compared.found, result)
            for result in compared.detection.values()
        ]
        search += [
            SearchRow(
                data.name,
                row.embeddings,
                row.boxes,
                row.search.num_queries,
                row.search.mean_ap,
                row.search.top_k[1],
            )
            for row in compared.rows
        ]
    return RealFrames(detection, search, speed)


def _detection(
    name: str, scenes: Sequence[Scene], found: Mapping[str, Detections], result: DetectionResult
) -> DetectionRow:
    tall = {
        scene.name: scene.boxes[scene.boxes[:, 3] - scene.boxes[:, 1] >= TALL] for scene in scenes
    }
    # Only recall is used: detections of shorter people count as false positives here.
    tall_only = evaluate_detection(tall, found, score_threshold=result.score_threshold)
    return DetectionRow(
        name,
        result.score_threshold,
        result.num_ground_truth,
        result.num_true_positives,
        result.recall,
        result.average_precision,
        tall_only.num_ground_truth,
        tall_only.num_true_positives,
    )


def print_tables(measured: RealFrames) -> None:
    """Print the measurements as three tables."""
    console = Console()
    table = Table("data", "score", "found", "recall", "AP", "found of the tall", title="detection")
    for row in measured.detection:
        table.add_row(
            row.data,
            f">= {row.score_threshold}",
            f"{row.found} of {row.people}",
            f"{row.recall:.3f}",
            f"{row.average_precision:.3f}",
            f"{row.tall_found} of {row.tall_people}",
        )
    console.print(table)
    table = Table("data", "boxes", "embedder", "queries", "mAP", "top-1", title="search")
    for found in measured.search:
        table.add_row(
            found.data,
            found.boxes,
            found.embedder,
            str(found.queries),
            f"{found.mean_ap:.3f}",
            f"{found.top_1:.3f}",
        )
    console.print(table)
    for name, speed in measured.pictures_per_second.items():
        console.print(f"{name}: {speed:.1f} pictures/s, read, detected and embedded")


if __name__ == "__main__":
    sys.exit(main())
