"""Results as tables of text, for a terminal or a page."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from personsearch.evaluation.comparison import Comparison
from personsearch.evaluation.published import published_results


@dataclass(frozen=True)
class TextTable:
    """A titled table of text cells. All columns but the first are aligned right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()  # lines below it


def percent(value: float) -> str:
    """Format a share as per cent: 0.12345 as ``12.3``."""
    return f"{100 * value:.1f}"


def detection_table(compared: Comparison, data: str) -> TextTable:
    """Return AP and recall by score threshold."""
    return TextTable(
        f"Detection on {data}, IoU 0.5, %",
        ("score threshold", "AP", "recall", "people", "detections"),
        [
            (
                f"{threshold:g}",
                percent(result.average_precision),
                percent(result.recall),
                str(result.num_ground_truth),
                str(result.num_detections),
            )
            for threshold, result in compared.detection.items()
        ],
    )


def search_table(compared: Comparison, data: str) -> TextTable:
    """Return mAP and top-k by protocol: of the model, on ground-truth boxes, of the floor."""
    first = compared.rows[0].search if compared.rows else None
    ks = list(first.top_k) if first else []
    least = f", detections with a score from {first.score_threshold:g}" if first else ""
    header = ("embeddings, boxes", "protocol", "similarity", "mAP", *(f"top-{k}" for k in ks))
    return TextTable(
        f"Search on {data}{least}, %",
        (*header, "queries"),
        [
            (
                f"{row.embeddings}, {row.boxes}",
                row.protocol,
                "x score" if row.confidence_weighted else "plain",
                percent(row.search.mean_ap),
                *(percent(row.search.top_k[k]) for k in ks),
                str(row.search.num_queries),
            )
            for row in compared.rows
        ],
    )


SAW_MARKET, UNCHECKED = " †", " ?"
_NOTES = {
    SAW_MARKET: "† A network was trained on Market-1501. Its pictures come from the same videos as "
    "PRW, so that results on PRW are not comparable.",
    UNCHECKED: "? Not found in its source.",
}


def published_table(compared: Comparison, data: str) -> TextTable:
    """Return published results on this data set, under the protocols that were measured.

    The best come first. Below are explanations of the marks that occur.
    """
    wanted = dict.fromkeys(row.protocol for row in compared.rows)
    results = [
        result
        for protocol in wanted
        for result in sorted(
            published_results(data.lower(), protocol), key=lambda one: -(one.mean_ap or 0)
        )
    ]
    marks = {
        SAW_MARKET: [result.market_1501 for result in results],
        UNCHECKED: [not result.checked for result in results],
    }
    return TextTable(
        f"Published results on {data}, %",
        ("method", "boxes", "protocol", "mAP", "top-1", "source"),
        [
            (
                result.method + "".join(mark for mark, on in marks.items() if on[index]),
                result.boxes,
                result.protocol,
                *("" if x is None else percent(x) for x in (result.mean_ap, result.top_1)),
                result.sources[0],
            )
            for index, result in enumerate(results)
        ],
        [note for mark, note in _NOTES.items() if any(marks[mark])],
    )


def print_tables(*tables: TextTable) -> None:
    """Print tables to standard output; empty ones are left out."""
    console = Console()
    for table in tables:
        if not table.rows:
            continue
        drawn = Table(title=table.title, title_justify="left")
        for column, name in enumerate(table.header):
            drawn.add_column(name, justify="left" if column == 0 else "right")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)
        for note in table.notes:
            console.print(note)
