"""`personsearch search` in a store: who is most like the examples, as a table, JSON or picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from personsearch.cli.store_folder import show_time

if TYPE_CHECKING:
    from personsearch.engines.engine import Engine
    from personsearch.search.archive import SearchResult
    from personsearch.search.people_search import Match
    from personsearch.search.reranking import Rerank
    from personsearch.store import Filters, StoredPerson


Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


def source_places(sources: Sequence[str]) -> tuple[str, ...]:
    """Folders, files and live cameras as a store knows them."""
    return tuple(
        one if ":" in one.partition("/")[0] else str(Path.cwd() / Path(one).expanduser())
        for one in sources
    )


def search_in_store(
    place: str,
    query_image: Path | None,
    corners: tuple[float, float, float, float] | None,
    *,
    examples: Sequence[tuple[Path, Corners | None]],
    people: list[int],
    unlike: list[int],
    filters: "Filters",
    model: str | None,
    device: str,
    top: int,
    grouped: bool,
    one_a_file: bool,
    rerank: "Rerank | None",
    expected: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Searches and prints."""
    import json

    from rich.console import Console

    from personsearch.cli.search import check_inside, choose_device, say_who
    from personsearch.search.archive import open_archive

    notes = None if as_json else Console(stderr=True)
    pictures = [*([] if query_image is None else [(query_image, corners)]), *examples]
    for picture, corner in pictures:
        check_inside(picture, corner)
    with open_archive(place, model=model, device=choose_device(device)) as archive:
        result = archive.search(
            examples=pictures,
            people=people,
            unlike=unlike,
            filters=filters,
            top=top,
            grouped=grouped,
            one_a_file=one_a_file,
            rerank=rerank,
            expected=expected,
        )
        matches = result.matches
        log_search_there(place, pictures, result, people, unlike, filters, top)
        if notes is not None and result.shown is not None and result.shown.score is not None:
            say_who(notes, result.shown)
        if out is not None:
            _write_picture(archive.engine, result, people, out)
    if as_json:
        about = {"store": place, "searched": result.searched}
        print(json.dumps({**about, "hits": [_plain(m) for m in matches]}, indent=2))
    else:
        _print_table(matches, out, result.searched, rerank)


def log_search_there(
    place: str,
    pictures: Sequence[tuple[Path, Corners | None]],
    result: "SearchResult",
    people: Sequence[int],
    unlike: Sequence[int],
    filters: "Filters",
    top: int,
) -> None:
    """Notes a search in the audit log of a store."""
    from personsearch.cli.store_folder import state_folder
    from personsearch.store.audit import log_search

    shown = [picture for picture, _ in pictures]
    box = None if result.shown is None else result.shown.box.tolist()
    hits = len(result.matches)
    log_search(state_folder(place), shown, box, hits, people, unlike, filters, top)


def _plain(match: "Match") -> dict[str, Any]:
    person = match.person
    return {
        "person": person.id,
        "path": person.place,
        "frame": person.frame,
        "position": person.position,
        "time": person.time,
        "track": None if person.track is None else vars(person.track),
        "camera": person.camera,
        "box": [round(float(side), 2) for side in person.box],
        "similarity": match.similarity,
        "chance": match.probability,
        "score": person.score,
        "rank_score": match.rank_score,
    }


def _print_table(
    matches: "list[Match]", out: Path | None, searched: int | None, rerank: str | None
) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from personsearch.search.calibration import show_chance

    table = Table("rank", "person", "picture")
    table.add_column("seen", no_wrap=True)
    table.add_column("time", no_wrap=True)
    table.add_column("camera")
    table.add_column("similarity")
    if searched is not None:
        table.add_column("chance", no_wrap=True)
    table.add_column("score")
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
            *([] if searched is None else [show_chance(match.probability)]),
            f"{person.score:.2f}",
        )
    Console().print(table)
    if searched is not None:
        typer.echo(f"chance: of being the same person, among {searched} searched", err=True)
    if rerank is not None:
        typer.echo(f"ranked again by {rerank}, so not in the order of similarity", err=True)
    if out is not None:
        typer.echo(f"hits drawn to {out}", err=True)


def _seen(person: "StoredPerson") -> str:
    """Where in a video: its track's span, or the view's position; empty for a photo."""
    if person.track is not None and person.track.last > person.track.first:
        return f"{clock(person.track.first)}-{clock(person.track.last)}"
    return "" if person.position is None else clock(person.position)


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _write_picture(engine: "Engine", result: "SearchResult", people: list[int], out: Path) -> None:
    """Query and hits side by side; a hit is shown by its thumbnail, whatever became of its file."""
    import io

    import numpy as np
    from PIL import Image

    from personsearch.media.pictures import read_picture
    from personsearch.plots.rankings import Panel, draw_ranking, write_picture
    from personsearch.search.calibration import show_chance

    def panel(person: int, lines: list[str]) -> Panel:
        with Image.open(io.BytesIO(engine.thumbnail(person)), formats=("JPEG",)) as image:
            pixels = np.asarray(image.convert("RGB"))
        height, width = pixels.shape[:2]
        return Panel(pixels, np.array([0, 0, width, height], np.float32), lines)

    shown = result.shown
    if shown is not None:
        query = Panel(read_picture(shown.path), shown.box, ["query", shown.path.name])
    else:
        query = panel(people[0], ["query", f"person {people[0]}"])
    hits = (
        panel(
            match.person.id,
            [
                f"{rank}: {match.similarity:.3f}  {show_chance(match.probability)}".rstrip(),
                match.person.path.name,
            ],
        )
        for rank, match in enumerate(result.matches, start=1)
    )
    write_picture(draw_ranking(query, hits), out)
