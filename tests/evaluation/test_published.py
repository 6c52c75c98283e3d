"""The file of published metrics: every row is whole, and the papers' tables are all there."""

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from personsearch.evaluation.published import PublishedFile, published_results
from personsearch.training.catalogue import SYSTEMS

# Rows with search metrics of each comparison table, counted in the papers.
TABLES = {
    "Xiao 2016, table 2": 13,
    "Xiao 2016, table 3": 6,  # the rows of the two subsets; those of the whole set are in table 2
    "Zhang 2019, table 1": 30,
    "Zhang 2019, table 2": 19,
    "Zhang 2019, table 3": 5,  # the last of its six cannot be read in our copy
    "Loesch 2019, table 1a": 30,  # 11 methods and PRW, gallery of 100 and of 4,000 where printed
    "Han 2019, table 2": 19,
    "Han 2019, table 3": 14,
    "Han 2021, table 3": 39,  # 18 rows of CUHK-SYSU, 18 of PRW and three of its other gallery
}


def test_the_papers_tables_are_whole() -> None:
    counted = Counter(source for row in published_results() for source in row.sources)
    assert {table: counted[table] for table in TABLES} == TABLES


def test_rows_name_systems_that_exist_and_all_systems_have_rows() -> None:
    named = {row.system for row in published_results()} - {None}
    assert named == set(SYSTEMS) - {"xiao2016-0.1"}


@pytest.mark.parametrize(
    ("data", "protocol", "method", "expected"),
    [
        ("cuhk-sysu", "gallery-100", "Xiao 2016 (RSS)", (55.7, 62.7, "xiao2016")),
        ("cuhk-sysu", "occlusion", "Xiao 2016 (RSS)", (39.7, 43.3, "xiao2016")),
        ("cuhk-sysu", "gallery-4000", "Loesch J3", (55.8, 58.9, "sequential")),
        ("cuhk-sysu", "gallery-100", "DC-I-Net (ResNet-50)", (86.2, 86.5, "dc-inet")),
        ("cuhk-sysu", "gallery-100", "SeqNet", (93.8, 94.6, "seqnet")),
        ("cuhk-sysu", "gallery-100", "NAE+", (92.1, 92.9, None)),
        ("prw", "regular", "SeqNet + CBGM", (47.6, 87.6, "seqnet")),
        ("prw", "regular", "RDLR", (42.9, 70.2, "rdlr")),
        ("prw", "regular-labelled", "Trident (AGWF)", (53.3, 87.7, "trident")),
        ("prw", "multi-view", "Trident (AGWF)", (48.0, 73.2, "trident")),
        ("webtattoo", "with-detection", "DC-I-Net", (48.5, 51.0, "dc-inet")),
    ],
)
def test_metrics_are_those_of_the_papers(
    data: str, protocol: str, method: str, expected: tuple[float, float, str | None]
) -> None:
    (row,) = [
        row
        for row in published_results(data, protocol)
        if row.method == method and row.boxes == "detected"
    ]
    assert row.mean_ap is not None
    assert row.top_1 is not None
    assert (round(100 * row.mean_ap, 2), round(100 * row.top_1, 2), row.system) == expected


def test_what_saw_market_1501_and_what_was_not_found_says_so() -> None:
    on_prw = published_results("prw")
    assert {row.method for row in on_prw if row.market_1501} == {
        "SeqNet + HKD",
        "COAT + HKD",
        "YOLO26 + PersonViT of Market-1501",
    }
    assert {row.method for row in published_results() if not row.checked} == {
        "NAE",
        "YOLO26 + PersonViT of Market-1501",
    }
    assert all(row.pretraining for row in published_results() if row.market_1501)


ROW: dict[str, Any] = {"method": "OIM", "mean_ap": 75.5, "top_1": 78.7, "sources": ["A, table 1"]}


def file(*rows: dict[str, Any], **group: Any) -> dict[str, Any]:
    group = {"data": "cuhk-sysu", "protocol": "gallery-100", "rows": list(rows)} | group
    return {"sources": {"A": "a paper"}, "group": [group]}


def test_a_row_is_read_as_shares() -> None:
    (row,) = PublishedFile.model_validate(file(ROW)).results
    assert (row.mean_ap, row.top_1, row.boxes, row.checked) == (0.755, 0.787, "detected", True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (file(ROW, ROW), "is listed twice"),
        (file(ROW | {"sources": ["B, table 1"]}), "no source is called 'B, table 1'"),
        (file(ROW | {"sources": []}), "at least 1 item"),
        (file(ROW, protocol="gallery-99"), "expected gallery-50, "),
        (file(ROW, data="market-1501"), "Input should be 'cuhk-sysu'"),
        (file(ROW | {"mean_ap": 755}), "less than 1"),
        (file(ROW | {"top_1": 0}), "greater than 0"),
        (file(ROW | {"top_5": 70.0}), "do not ascend"),
        (file(ROW | {"rank_1": 70.0}), "Extra inputs"),
        (file({"method": "OIM", "sources": ["A"]}), "neither mean_ap nor top_1"),
    ],
)
def test_a_wrong_row_is_refused(content: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PublishedFile.model_validate(content)
