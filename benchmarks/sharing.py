"""Time detection and embedding of a person by how much of the network is shared (table 1b).

    python benchmarks/sharing.py --backbone resnet50 --side 640
    python benchmarks/sharing.py --backbone small --side 640

Loesch et al. (2019, table 1b) time J2, J3, J4 and the disjoint pair on a Titan X; comparable on
another machine is the ratio to the disjoint pair, which runs in the same process on the same
pictures. Nothing is trained: time does not depend on the weights. The detector does all its work,
including suppression; then a fixed number of boxes of the size of people is embedded. Without a
GPU, times are CPU time summed over threads, which other work on the machine hardly changes.

'small' has a narrow pyramid and a short head, as in its recipe.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from personsearch.detectors.backbones import build_trunk
from personsearch.detectors.retinanet import (
    PUBLISHED,
    DetectedBoxes,
    Predictions,
    RetinaNetSettings,
)
from personsearch.systems.sequential import SHARED, Sequential

BATCHES, PEOPLE = (1, 4, 8), (5, 20)
SMALL = RetinaNetSettings(pyramid_channels=64, head_depth=2, anchor_sizes=(48, 80, 136))
PAPER = {
    ("disjoint", 5): (17.0, 13.6, 12.9),
    ("disjoint", 20): (7.4, 6.6, 6.4),
    ("J2", 5): (12.3, 8.3, 7.4),
    ("J2", 20): (3.9, 2.7, 2.5),
    ("J3", 5): (12.2, 7.8, 7.2),
    ("J3", 20): (3.4, 2.4, 2.2),
    ("J4", 5): (11.1, 7.1, 6.5),
    ("J4", 20): (2.9, 1.9, 1.9),
}
"""Milliseconds per person at 1, 4 and 8 pictures per batch."""


@dataclass(frozen=True)
class Row:
    """One measurement beside the paper's.

    Attributes:
        sharing: a key of `systems.sequential.SHARED`.
        batch: pictures per batch.
        people: people per picture.
        ms_per_person: measured milliseconds per person.
        speedup: measured time of the disjoint pair over this one's.
        paper_speedup: the same in the paper.
    """

    sharing: str
    batch: int
    people: int
    ms_per_person: float
    speedup: float
    paper_speedup: float


def time_per_person(
    model: Sequential, images: list[Tensor], boxes: Tensor, repeats: int = 5
) -> float:
    """Return milliseconds to detect and embed one person, the median of several calls.

    Args:
        model: in evaluation mode, on the device of `images`.
        images: (3, H, W) each.
        boxes: (P, 4) in pixels of the batch, embedded in every picture in place of detections.
        repeats: timed calls, after a warm-up.
    """
    postprocess = model.detector.postprocess

    def fixed(predictions: Predictions, sizes: Sequence[tuple[int, int]]) -> list[DetectedBoxes]:
        postprocess(predictions, sizes)
        rows = torch.arange(len(boxes), device=boxes.device)
        return [DetectedBoxes(rows, boxes, boxes.new_ones(len(boxes))) for _ in sizes]

    model.detector.postprocess = fixed  # type: ignore[method-assign]
    try:
        clock = time.perf_counter if boxes.is_cuda else time.process_time
        taken = []
        for _ in range(repeats + 1):
            began = clock()
            with torch.inference_mode():
                model.detect(images)
            if boxes.is_cuda:
                torch.cuda.synchronize()
            taken.append(clock() - began)
    finally:
        model.detector.postprocess = postprocess  # type: ignore[method-assign]
    return 1000.0 * statistics.median(taken[1:]) / (len(images) * len(boxes))


def compare(
    backbone: str,
    side: int,
    device: str,
    repeats: int,
    batches: Sequence[int] = BATCHES,
    people: Sequence[int] = PEOPLE,
) -> list[Row]:
    """Measure every way of sharing, batch and number of people, the disjoint pair first."""
    rows: list[Row] = []
    disjoint: dict[tuple[int, int], float] = {}
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(max(batches), 3, side, side, generator=generator).to(device)
    corners = torch.rand(max(people), 2, generator=generator) * side * torch.tensor([0.8, 0.6])
    # People two fifths as tall as the picture, with usual proportions.
    boxes = torch.cat([corners, corners + side * torch.tensor([0.16, 0.4])], dim=1).to(device)
    for sharing in sorted(SHARED, key=lambda name: (name != "disjoint", name)):
        torch.manual_seed(0)
        model = Sequential(
            build_trunk(backbone),
            2,
            sharing=sharing,  # type: ignore[arg-type]
            min_size=side,
            max_size=side,
            detector=SMALL if backbone == "small" else PUBLISHED,
        )
        model.to(device).eval()
        for batch in batches:
            for count in people:
                taken = time_per_person(model, list(pictures[:batch]), boxes[:count], repeats)
                disjoint.setdefault((batch, count), taken)
                paper = (
                    PAPER["disjoint", count][BATCHES.index(batch)]
                    / PAPER[sharing, count][BATCHES.index(batch)]
                    if batch in BATCHES and count in PEOPLE
                    else float("nan")
                )
                row = Row(sharing, batch, count, taken, 0.0, paper)
                rows.append(replace(row, speedup=disjoint[batch, count] / taken))
    return rows


def main() -> None:
    """Print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backbone", default="resnet50", help="'small' or a ResNet")
    parser.add_argument("--side", type=int, default=640, help="sides of the pictures, in pixels")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--people", type=int, nargs="+", default=list(PEOPLE))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = compare(
        asked.backbone, asked.side, asked.device, asked.repeats, asked.batches, asked.people
    )
    if asked.json:
        print(json.dumps([vars(row) for row in rows]))
        return
    table = Table(title=f"{asked.backbone}, {asked.side} x {asked.side}, {asked.device}")
    for name in ("shared", "batch", "people", "ms a person", "speed-up", "the paper's"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = (row.ms_per_person, row.speedup, row.paper_speedup)
        cells = [row.sharing, str(row.batch), str(row.people), *(f"{f:.2f}" for f in figures)]
        table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    main()
