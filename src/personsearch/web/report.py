"""A result as one file: HTML with embedded thumbnails, or CSV that is safe to open."""

import base64
import csv
import datetime
import io
import json
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from personsearch.search.calibration import show_probability
from personsearch.search.people_search import Match
from personsearch.store import StoredPerson
from personsearch.web.people import time_span
from personsearch.web.uploads import Result

COLUMNS = (
    *("rank", "person", "similarity", "probability", "score", "mark", "camera", "time_utc"),
    *("position_s", "source", "file", "frame", "x1", "y1", "x2", "y2"),
    "chance",  # deprecated: the name of probability in version 0.1
)
ERASED = "erased"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
)


def utc(seconds: float | None) -> str:
    """Return a time in UTC as ISO 8601; empty if it is not known."""
    if seconds is None:
        return ""
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def harmless(text: str) -> str:
    """Return text for a cell, quoted where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_csv(matches: Mapping[int, Match], marks: Mapping[int, str], hits: int) -> str:
    """Return matches by rank as CSV, one a line.

    A rank up to `hits` without a match is a person who was erased: an empty line with that mark.
    """
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(COLUMNS)
    for rank in range(1, hits + 1):
        if (match := matches.get(rank)) is None:
            shown = {"rank": rank, "mark": ERASED}
            table.writerow([shown.get(column, "") for column in COLUMNS])
            continue
        person = match.person
        probability = "" if match.probability is None else round(match.probability, 4)
        position = "" if person.position is None else round(person.position, 3)
        frame = "" if person.frame is None else person.frame
        table.writerow(
            (
                *(rank, person.id, round(match.similarity, 6), probability),
                *(round(float(person.score), 4), marks.get(person.id, "")),
                *(harmless(person.camera or ""), utc(person.time), position),
                *(harmless(person.source), harmless(person.name), frame),
                *(round(float(side), 2) for side in person.box),
                probability,
            )
        )
    # Names of files may hold characters that UTF-8 cannot encode.
    return written.getvalue().encode("utf-8", "replace").decode()


def as_html(
    result: Result,
    matches: Mapping[int, Match],
    pictures: Mapping[int, bytes],
    marks: Mapping[int, str],
    title: str = "",
) -> str:
    """Return a page that needs no other file, with JPEG thumbnails and marks by person.

    Hits of the result that are not among the matches by rank are counted as erased.
    """
    facts = {"Made": utc(result.time), "By": result.owner, "Hits": str(len(matches))}
    if erased := len(result.hits) - len(matches):
        facts["Erased since"] = f"{erased}, left out here"
    facts |= {key.capitalize(): json.dumps(value) for key, value in result.query.items() if value}
    rows = [
        {
            "rank": rank,
            "person": match.person,
            "picture": base64.b64encode(pictures.get(match.person.id, b"")).decode(),
            "similarity": f"{match.similarity:.3f}",
            "probability": show_probability(match.probability),
            "seen": _seen(match.person),
            "mark": marks.get(match.person.id, ""),
        }
        for rank, match in sorted(matches.items())
    ]
    page = _TEMPLATES.get_template("report.html").render(
        title=title or "Search result", facts=facts, rows=rows
    )
    # Names of files may hold characters that UTF-8 cannot encode.
    return page.encode("utf-8", "replace").decode()


def _seen(person: StoredPerson) -> str:
    span = time_span(person)
    parts = [person.camera or "", utc(person.time)]
    if span is not None and span[1] > span[0]:
        parts[1] = f"{utc(span[0])} to {utc(span[1])}"
    elif person.time is None and person.position is not None:
        parts[1] = f"at {person.position:.1f} s"
    return ", ".join(part for part in parts if part)
