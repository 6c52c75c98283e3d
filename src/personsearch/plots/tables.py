"""Results as tables of text, for a terminal or a page."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from personsearch.evaluation.comparison import Comparison
from personsearch.evaluation.published import PublishedResult, published_results
from personsearch.terminal import console


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
    """Return mAP and top-k by protocol: of the model, on ground-truth boxes, of the floor.

    Detections have a line with similarities multiplied by scores and one without.
    """
    first = compared.rows[0].search if compared.rows else None
    ks = list(first.top_k) if first else []
    least = f", detections with a score from {first.score_threshold:g}" if first else ""
    return TextTable(
        f"Search on {data}{least}, %",
        ("embeddings, boxes", "protocol", "mAP", *(f"top-{k}" for k in ks), "queries"),
        [
            (
                f"{row.embeddings}, {row.boxes}" + (", x score" if weighted else ""),
                row.protocol,
                percent(search.mean_ap),
                *(percent(search.top_k[k]) for k in ks),
                str(search.num_queries),
            )
            for row in compared.rows
            for search, weighted in (
                # True boxes have a score of 1.
                (row.search, row.confidence_weighted and row.boxes != "ground truth"),
                (row.other, not row.confidence_weighted),
            )
            if search is not None
        ],
    )


_HEADER = ("method", "boxes", "protocol", "mAP", "top-1", "source")
_NOTES = {
    "†": "† A network was trained on Market-1501, whose pictures are from the videos of PRW: its "
    "result on PRW is not comparable with others.",
    "?": "? Not found in its source.",
}


def published_table(compared: Comparison, data: str) -> TextTable:
    """Return published results on this data set, under the protocols that were measured.

    The best come first. Marks behind a method are explained below the table.
    """
    results = [
        result
        for protocol in dict.fromkeys(row.protocol for row in compared.rows)
        for result in sorted(
            published_results(data.lower(), protocol), key=lambda one: -(one.mean_ap or 0)
        )
    ]
    return _published(f"Published results on {data}, %", results)


def comparison_tables(paper: str) -> list[TextTable]:
    """Return a paper's tables of published results, such as ``"Han 2021"``, as it prints them."""
    places = {s for row in published_results() for s in row.sources if s.startswith(f"{paper}, ")}
    return [_published(f"{place}, %", published_results(source=place)) for place in sorted(places)]


def _published(title: str, results: Sequence[PublishedResult]) -> TextTable:
    marks = [
        ("†" if result.market_1501 else "") + ("" if result.checked else "?") for result in results
    ]
    return TextTable(
        title,
        _HEADER,
        [
            (
                f"{result.method} {mark}".strip(),
                result.boxes,
                result.protocol,
                *("" if x is None else percent(x) for x in (result.mean_ap, result.top_1)),
                result.sources[0],
            )
            for result, mark in zip(results, marks, strict=True)
        ],
        [note for mark, note in _NOTES.items() if any(mark in one for one in marks)],
    )


def print_tables(*tables: TextTable) -> None:
    """Print tables to standard output; empty ones are left out."""
    screen = console()
    for table in tables:
        if not table.rows:
            continue
        drawn = Table(title=table.title, title_justify="left")
        for column, name in enumerate(table.header):
            drawn.add_column(name, justify="left" if column == 0 else "right")
        for row in table.rows:
            drawn.add_row(*row)
        screen.print(drawn)
        for note in table.notes:
            screen.print(note)
