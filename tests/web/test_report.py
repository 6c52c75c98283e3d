"""Reports: no formula for a spreadsheet, no markup from data."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from personsearch.search.people_search import Match
from personsearch.store import StoredPerson
from personsearch.web.report import COLUMNS, as_csv, as_html, utc
from personsearch.web.uploads import Result


def match(camera: str, name: str = "a.jpg", time: float | None = 0.0) -> Match:
    box = np.array([-1, 2, 30, 40], np.float32)
    person = StoredPerson(7, "/photos", name, box, 0.5, None, None, time, camera, (60, 80))
    return Match(person, -0.25, -0.25)


def test_formulas_stay_text() -> None:
    evil = ['=HYPERLINK("x")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a,b\n=1"]
    rows = list(
        csv.DictReader(
            io.StringIO(
                as_csv(dict(enumerate((match(e, e) for e in evil), 1)), {7: "wrong"}, len(evil))
            )
        )
    )
    assert list(rows[0]) == list(COLUMNS)
    for row, text in zip(rows, evil, strict=True):
        for column in ("camera", "file"):
            assert row[column].lstrip("'").replace("\r\n", "\n") == text or "\r" in text
            assert row[column][0] in "'a"
        assert (row["similarity"], row["mark"], row["time_utc"]) == (
            "-0.25",
            "wrong",
            "1970-01-01T00:00:00Z",
        )


def test_markup_stays_text() -> None:
    evil = "<script>alert(1)</script>\"'"
    found = {1: match(evil, evil)}
    result = Result.of(evil, 0.0, {"filters": {"cameras": [evil]}}, [*found.values()])
    page = as_html(result, found, {7: b"jpeg"}, {7: evil}, evil)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 7
    assert "default-src 'none'" in page
    assert "neither a probability nor a proof" in page
    assert as_html(result, found, {}, {}).count("no picture") == 1


def test_odd_names_and_times() -> None:
    odd = match("\udcff", "\ud800.jpg", time=1e300)
    assert as_csv({1: odd}, {}, 1).encode()
    assert as_html(Result.of("a", 0.0, {}, [odd]), {1: odd}, {}, {}).encode()
    assert utc(None) == ""
    assert utc(1e300) == "1e+300"
    assert Path(str(odd.person.path)).name


def test_the_erased_are_counted_and_not_shown() -> None:
    one = match("gate")
    result = Result.of("a", 0.0, {}, [one, replace(one, person=replace(one.person, id=8))])
    left = result.matches({8: replace(one.person, id=8)})
    assert list(left) == [2]
    first, second = csv.DictReader(io.StringIO(as_csv(left, {}, 2)))
    assert {name: value for name, value in first.items() if value} == {
        "rank": "1",
        "mark": "erased",
    }
    assert (second["rank"], second["person"]) == ("2", "8")
    page = as_html(result, left, {}, {})
    assert "1, left out here" in page
    assert "person 7" not in page
