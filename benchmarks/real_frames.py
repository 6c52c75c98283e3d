"""Detection and search on a folder of real samples: a table, or JSON.

    python benchmarks/real_frames.py --data FOLDER [--model CHECKPOINT_OR_TOML] [--json]

The folder is what `personsearch.datasets.real_samples` describes. Every row of search stands beside
the same protocol with an HSV histogram as the embedder: what a system must beat.
"""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from personsearch.demo.real_frames import RealFrames, measure
from personsearch.errors import PersonSearchError
from personsearch.loading import load


def main() -> int:
    """Measures and prints; 0 on success, 1 on a failure of data or model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of real samples")
    parser.add_argument("--model", type=Path, help="default: the networks in the folder")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        model = None if given.model is None else load(given.model)
        figures = measure(given.data, model, progress=lambda text: print(text, file=sys.stderr))
    except PersonSearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(figures.as_json(), indent=2))
    else:
        print_tables(figures)
    return 0


def print_tables(figures: RealFrames) -> None:
    """The figures as three tables."""
    console = Console()
    table = Table("data", "score", "found", "recall", "AP", "found of the tall", title="detection")
    for row in figures.detection:
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
    for found in figures.search:
        table.add_row(
            found.data,
            found.boxes,
            found.embedder,
            str(found.queries),
            f"{found.mean_ap:.3f}",
            f"{found.top_1:.3f}",
        )
    console.print(table)
    for name, speed in figures.pictures_per_second.items():
        console.print(f"{name}: {speed:.1f} pictures/s, read, detected and embedded")


if __name__ == "__main__":
    sys.exit(main())
