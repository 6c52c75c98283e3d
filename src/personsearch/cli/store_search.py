"""`personsearch search` in a store: who is most like the examples, as a table, JSON or picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from personsearch.cli.store_folder import show_time

if TYPE_CHECKING:
    from personsearch.retrieval.engine import Engine
    from personsearch.retrieval.people_search import Match
    from personsearch.retrieval.store import Filters, StoredPerson
    from personsearch.types import FloatArray


def search_in_store(
    folder: Path,
    query_image: Path | None,
    corners: tuple[float, float, float, float] | None,
    *,
    people: list[int],
    unlike: list[int],
    filters: "Filters",
    model: str | None,
    device: str,
    top: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Searches and prints."""
    import json

    from rich.console import Console

    from personsearch.cli.search import check_inside, choose_device, say_who
    from personsearch.retrieval.archive import open_archive
    from personsearch.retrieval.audit import log_search

    notes = None if as_json else Console(stderr=True)
    if query_image is not None:
        check_inside(query_image, corners)
    with open_archive(folder, model=model, device=choose_device(device)) as archive:
        result = archive.search(
            query_image, box=corners, people=people, unlike=unlike, filters=filters, top=top
        )
        matches = result.matches
        log_search(folder, query_image, result, people, unlike, filters, top)
        box = None if result.shown is None else result.shown.box
        if notes is not None and result.shown is not None and result.shown.score is not None:
            say_who(notes, result.shown)
        if out is not None:
            _write_picture(archive.engine, query_image, people, box, matches, out)
    if as_json:
        print(json.dumps({"store": str(folder), "hits": [_plain(m) for m in matches]}, indent=2))
    else:
        _print_table(matches, out)


def _plain(match: "Match") -> dict[str, Any]:
    person = match.person
    return {
        "person": person.id,
        "path": str(person.path),
        "frame": person.frame,
        "position": person.position,
        "time": person.time,
        "track": None if person.track is None else vars(person.track),
        "camera": person.camera,
        "box": [round(float(side), 2) for side in person.box],
        "similarity": match.similarity,
        "score": person.score,
        "rank_score": match.rank_score,
    }


def _print_table(matches: "list[Match]", out: Path | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("rank", "person", "picture")
    table.add_column("seen", no_wrap=True)
    table.add_column("time", no_wrap=True)
    for name in ("camera", "similarity", "score"):
        table.add_column(name)
    for rank, match in enumerate(matches, start=1):
        person = match.person
        table.add_row(
            str(rank),
            str(person.id),
            escape(person.name or person.path.name),
            _seen(person),
            show_time(person.time),
            escape(person.camera or ""),
            f"{match.similarity:.3f}",
            f"{person.score:.2f}",
        )
    Console().print(table)
    if out is not None:
        typer.echo(f"hits drawn to {out}", err=True)


def _seen(person: "StoredPerson") -> str:
    """Where in a video: its track's span, or the view's position; empty for a photo."""
    if person.track is not None and person.track.last > person.track.first:
        return f"{_clock(person.track.first)}-{_clock(person.track.last)}"
    return "" if person.position is None else _clock(person.position)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _write_picture(
    engine: "Engine",
    query_image: Path | None,
    people: list[int],
    box: "FloatArray | None",
    matches: "list[Match]",
    out: Path,
) -> None:
    """Query and hits side by side; a hit is shown by its thumbnail, whatever became of its file."""
    import io

    import numpy as np
    from PIL import Image

    from personsearch.datasets.pictures import read_picture
    from personsearch.plots.rankings import Panel, draw_ranking, write_picture

    def panel(person: int, lines: list[str]) -> Panel:
        with Image.open(io.BytesIO(engine.thumbnail(person)), formats=("JPEG",)) as image:
            pixels = np.asarray(image.convert("RGB"))
        height, width = pixels.shape[:2]
        return Panel(pixels, np.array([0, 0, width, height], np.float32), lines)

    if query_image is not None and box is not None:
        query = Panel(read_picture(query_image), box, ["query", query_image.name])
    else:
        query = panel(people[0], ["query", f"person {people[0]}"])
    hits = (
        panel(
            match.person.id,
            [f"{rank}: {match.similarity:.3f}", Path(match.person.name).name],
        )
        for rank, match in enumerate(matches, start=1)
    )
    write_picture(draw_ranking(query, hits), out)
