"""A result as one file: HTML with its pictures in it, or CSV that a spreadsheet may open."""

import base64
import csv
import datetime
import html
import io
import json
from collections.abc import Mapping, Sequence

from personsearch.search.calibration import show_probability
from personsearch.search.people_search import Match
from personsearch.store import StoredPerson
from personsearch.web.people import time_span
from personsearch.web.uploads import Result

COLUMNS = (
    "rank",
    "person",
    "similarity",
    "chance",
    "score",
    "mark",
    "camera",
    "time_utc",
    "position_s",
    "source",
    "file",
    "frame",
    "x1",
    "y1",
    "x2",
    "y2",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .5rem; border-top: 1px solid #8884; }
td { overflow-wrap: anywhere; } img { display: block; max-width: 6rem; border-radius: 4px; }
td.number { font-variant-numeric: tabular-nums; }
@media print { tr { break-inside: avoid; } }
"""


def utc(seconds: float | None) -> str:
    """A time as it is read everywhere; empty if it is not known."""
    if seconds is None:
        return ""
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def harmless(text: str) -> str:
    """Text for a cell: what a spreadsheet would take for a formula stays text."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_csv(matches: Sequence[Match], marks: Mapping[int, str]) -> str:
    """Matches, one a line."""
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(COLUMNS)
    for rank, match in enumerate(matches, start=1):
        person = match.person
        table.writerow(
            [
                rank,
                person.id,
                round(match.similarity, 6),
                "" if match.probability is None else round(match.probability, 4),
                round(float(person.score), 4),
                marks.get(person.id, ""),
                harmless(person.camera or ""),
                utc(person.time),
                "" if person.position is None else round(person.position, 3),
                harmless(person.source),
                harmless(person.name),
                "" if person.frame is None else person.frame,
                *(round(float(side), 2) for side in person.box),
            ]
        )
    # A name may hold what no file can.
    return written.getvalue().encode("utf-8", "replace").decode()


def as_html(
    result: Result, pictures: Mapping[int, bytes], marks: Mapping[int, str], title: str = ""
) -> str:
    """A page that needs nothing else.

    Args:
        result: what was found.
        pictures: by person, as JPEG.
        marks: by person, ``right`` or ``wrong``.
        title: of the page.
    """
    rows = "".join(
        _row(rank, match, pictures.get(match.person.id, b""), marks.get(match.person.id, ""))
        for rank, match in enumerate(result.matches, start=1)
    )
    facts = {"Made": utc(result.time), "By": result.owner, "Hits": str(len(result.matches))}
    facts |= {key.capitalize(): json.dumps(value) for key, value in result.query.items() if value}
    listed = "".join(
        f"<dt>{_safe(key)}</dt><dd>{_safe(value)}</dd>" for key, value in facts.items()
    )
    name = _safe(title or "People who are alike")
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{name}</title><style>{_STYLE}</style></head><body><h1>{name}</h1>"
        "<p>Similarity says how alike two pictures of people are. It is no probability, and no "
        f"proof of who someone is.</p><dl>{listed}</dl><table><thead><tr><th>Rank</th>"
        "<th>Picture</th><th>Similarity</th><th>Seen</th><th>File</th><th>Mark</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></body></html>\n"
    )
    return text.encode("utf-8", "replace").decode()


def _row(rank: int, match: Match, picture: bytes, mark: str) -> str:
    person = match.person
    shown = "no picture"
    if picture:
        data = base64.b64encode(picture).decode()
        shown = f'<img alt="Person {person.id}" src="data:image/jpeg;base64,{data}">'
    return (
        f'<tr><td class="number">{rank}</td><td>{shown}</td>'
        f'<td class="number">{match.similarity:.3f}{_chance(match)}</td>'
        f"<td>{_safe(_seen(person))}</td>"
        f"<td>{_safe(person.uri)}<br>person {person.id}</td><td>{_safe(mark)}</td></tr>"
    )


def _chance(match: Match) -> str:
    if match.probability is None:
        return ""
    return f"<br>chance {_safe(show_probability(match.probability))}"


def _seen(person: StoredPerson) -> str:
    span = time_span(person)
    parts = [person.camera or "", utc(person.time)]
    if span is not None and span[1] > span[0]:
        parts[1] = f"{utc(span[0])} to {utc(span[1])}"
    elif person.time is None and person.position is not None:
        parts[1] = f"at {person.position:.1f} s"
    return ", ".join(part for part in parts if part)


def _safe(text: str) -> str:
    return html.escape(text)
