"""Tables hold the figures that were measured, and the papers' beside them."""

from dataclasses import replace

import numpy as np
import pytest

from personsearch.bench.binding import papers, read_binding
from personsearch.evaluation.comparison import Comparison, Row
from personsearch.evaluation.detection import evaluate_detection
from personsearch.evaluation.search import evaluate_search
from personsearch.plots.tables import (
    comparison_tables,
    detection_table,
    percent,
    print_tables,
    published_table,
    search_table,
)
from personsearch.types import Detections, Query, SearchProtocol


@pytest.fixture
def compared() -> Comparison:
    """Two queries of which one is answered; two of three people are found."""
    box = np.array([0, 0, 10, 20], dtype=np.float32)
    found = {
        "a": Detections(box[None], [0.9], [[1.0, 0.0]]),
        "b": Detections(np.array([[30, 0, 40, 20], [0, 0, 10, 20]]), [0.8, 0.7], np.eye(2)),
    }
    protocol = SearchProtocol(
        name="regular",
        queries=[Query("q", box, 0), Query("q", box, 1)],
        galleries=[["a", "b"]] * 2,
        targets=[{"a": box}, {"b": box + np.float32(200)}],
    )
    truth = {"a": box[None], "b": np.stack([box, box + np.float32(200)])}
    search = evaluate_search(protocol, found, np.eye(2, dtype=np.float32))
    detection = evaluate_detection(truth, found)
    weighted = evaluate_search(
        protocol, found, np.eye(2, dtype=np.float32), confidence_weighted=True, top_k=(1, 5, 10)
    )
    rows = [Row("regular", "model", "detected", search, other=weighted)]
    return Comparison({0.5: detection}, rows, {}, found, {})


def test_search_and_detection(compared: Comparison) -> None:
    search, detection = search_table(compared, "made up"), detection_table(compared, "made up")
    assert search.header == (
        "embeddings, boxes",
        "protocol",
        "mAP",
        "top-1",
        "top-5",
        "top-10",
        "queries",
    )
    row = compared.rows[0].search
    assert row.mean_ap == pytest.approx(0.5)
    assert search.rows == [
        ("model, detected", "regular", "50.0", "50.0", "50.0", "50.0", "2"),
        ("model, detected, x score", "regular", "50.0", "50.0", "50.0", "50.0", "2"),
    ]
    assert search.title == "Search on made up, detections with a score from 0.5, %"
    assert detection.rows[0][0] == "0.5"
    assert detection.rows[0][2:] == ("66.7", "3", "3")


def test_papers_figures_stand_beside_ours_the_best_first(compared: Comparison) -> None:
    table = published_table(compared, "PRW")
    oim = ("OIM", "detected", "regular", "21.3", "49.9", "Zhang 2019, table 2")
    assert oim in table.rows
    assert {cells[2] for cells in table.rows} == {"regular"}
    shown = [float(cells[3]) for cells in table.rows]
    assert shown == sorted(shown, reverse=True)
    assert published_table(compared, "made up").rows == []


def test_marks_are_explained_where_they_occur(
    compared: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    table = published_table(compared, "PRW")
    marked = [cells[0] for cells in table.rows if "†" in cells[0]]
    assert marked == ["YOLO26 + PersonViT of Market-1501 †?", "COAT + HKD †", "SeqNet + HKD †"]
    assert [note[0] for note in table.notes] == ["†", "?"]
    print_tables(table)
    assert "videos of PRW" in " ".join(capsys.readouterr().out.split())
    multi_view = [replace(row, protocol="multi-view") for row in compared.rows]
    assert published_table(replace(compared, rows=multi_view), "PRW").notes == []


def test_a_papers_tables_are_as_it_prints_them() -> None:
    for paper in papers():
        tables = comparison_tables(
            read_binding(paper).title.partition(",")[0].replace(" et al.", "")
        )
        assert tables, paper
    (table,) = comparison_tables("Han 2021")
    assert (table.title, len(table.rows)) == ("Han 2021, table 3, %", 39)
    assert ("Trident (AGWF)", "multi-view") in {(row[0], row[2]) for row in table.rows}


def test_printing_leaves_out_empty_tables(
    compared: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    print_tables(search_table(compared, "made up"), published_table(compared, "made up"))
    out = capsys.readouterr().out
    assert "Search on made up" in out
    assert "50.0" in out
    assert "Papers" not in out


def test_percent() -> None:
    assert [percent(v) for v in (0.12345, 0.0, 1.0)] == ["12.3", "0.0", "100.0"]
