"""Output of `personsearch search`: tables, JSON and pictures of the hits."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from personsearch.cli.options import print_json, print_table, show_position, show_time

if TYPE_CHECKING:
    from personsearch.plots.rankings import Panel
    from personsearch.search.archive import Archive, ArchiveResult
    from personsearch.search.folder_search import FolderResult, Hit
    from personsearch.search.query import QueryPerson
    from personsearch.search.request import SearchRequest
    from personsearch.store import StoredPerson


def show_result(
    archive: "Archive",
    request: "SearchRequest",
    result: "ArchiveResult",
    out: Path | None,
    as_json: bool,
) -> None:
    """Print the matches of a search in a store, and draw them."""
    if out is not None:
        _draw_matches(archive, request, result, out)
    if as_json:
        print_json({"store": archive.engine.uri, **result.as_json()})
        return
    if result.shown is not None:
        print_query(result.shown)
    _print_matches(result)
    if result.reason:
        _note(f"no matches: {result.reason}")
    if result.searched is not None:
        _note(f"probability: of being the same person, among {result.searched} searched")
    if request.rerank is not None:
        _note(f"ranked again by {request.rerank}, so not in the order of similarity")
    if out is not None:
        _note(f"hits drawn to {out}")


def print_query(query: "QueryPerson") -> None:
    """Print which person was chosen, and who else is in the picture, where no box was given."""
    if query.score is None or query.others is None:
        return
    _note(
        f"no --box: searching for the highest-scoring person in {query.path}, "
        f"box {_comma(query.box)} (score {query.score:.2f})"
    )
    for box, score in zip(query.others.boxes, query.others.scores, strict=True):
        _note(f"  also there: --box {_comma(box)} (score {score:.2f})")


def _note(text: str) -> None:
    from personsearch.terminal import console, printable

    console(stderr=True).print(printable(text), soft_wrap=True, markup=False, highlight=False)


def _comma(box: Any) -> str:
    return ",".join(f"{side:.0f}" for side in box)


def _print_matches(result: "ArchiveResult") -> None:
    from personsearch.search.calibration import show_probability

    calibrated = result.searched is not None
    rows = []
    for rank, match in enumerate(result.matches, start=1):
        person = match.person
        row = [str(rank), str(person.id), person.name or person.path.name, _seen(person)]
        row += [show_time(person.time), person.camera or "", f"{match.similarity:.3f}"]
        row += [show_probability(match.probability)] if calibrated else []
        rows.append([*row, f"{person.score:.2f}"])
    columns = ["rank", "person", "picture", "seen", "time", "camera", "similarity"]
    columns += ["probability"] if calibrated else []
    # A narrow terminal wraps names and times, never a number.
    numbers = ("rank", "person", "similarity", "probability", "score")
    print_table([*columns, "score"], rows, no_wrap=numbers)


def _seen(person: "StoredPerson") -> str:
    """Where in a video: its track's span, or the view's position; empty for a photo."""
    if person.track is not None and person.track.last > person.track.first:
        return f"{show_position(person.track.first)}-{show_position(person.track.last)}"
    return "" if person.position is None else show_position(person.position)


def _query_panel(query: "QueryPerson") -> "Panel":
    from personsearch.plots.rankings import Panel

    return Panel(query.picture.pixels, query.box, ["query", query.path.name])


def _draw_matches(
    archive: "Archive", request: "SearchRequest", result: "ArchiveResult", out: Path
) -> None:
    """Query and hits side by side; hits by their thumbnails, since their files may be gone."""
    import io

    import numpy as np
    from PIL import Image

    from personsearch.plots.rankings import Panel, draw_ranking, write_picture
    from personsearch.search.calibration import show_probability

    def panel(person: int, lines: list[str]) -> Panel:
        jpeg = io.BytesIO(archive.engine.thumbnail(person))
        with Image.open(jpeg, formats=("JPEG",)) as image:
            pixels = np.asarray(image.convert("RGB"))
        height, width = pixels.shape[:2]
        return Panel(pixels, np.array([0, 0, width, height], np.float32), lines)

    if result.shown is not None:
        query = _query_panel(result.shown)
    else:
        query = panel(request.people[0], ["query", f"person {request.people[0]}"])
    hits = (
        panel(
            match.person.id,
            [
                f"{rank}: {match.similarity:.3f}  {show_probability(match.probability)}".rstrip(),
                match.person.path.name,
            ],
        )
        for rank, match in enumerate(result.matches, start=1)
    )
    write_picture(draw_ranking(query, hits), out)


def show_folder_result(result: "FolderResult", out: Path | None, as_json: bool) -> None:
    """Print the hits of a search of a folder, and draw them."""
    if out is not None:
        _draw_hits(result, out)
    if as_json:
        print_json(result.as_json())
        return
    rows = (
        [str(rank), hit.scene, _comma(hit.box), f"{hit.similarity:.3f}", f"{hit.score:.2f}"]
        for rank, hit in enumerate(result.hits, start=1)
    )
    print_table(("rank", "picture", "box", "similarity", "score"), rows)
    excluded = ", without the query's own picture" if result.excluded else ""
    stopped = ", stopped early" if result.interrupted else ""
    people = "1 person" if result.people == 1 else f"{result.people} people"
    pictures = "1 picture" if result.pictures == 1 else f"{result.pictures} pictures"
    _note(f"{people} in {pictures}{excluded}{stopped}")
    if result.unreadable:
        _note(f"{len(result.unreadable)} could not be read:")
    for item in result.unreadable:
        _note(f"  {item.path}: {item.reason}")
    if out is not None:
        _note(f"hits drawn to {out}")


def _draw_hits(result: "FolderResult", out: Path) -> None:
    from personsearch.media.apart import read_picture
    from personsearch.plots.rankings import Panel, draw_ranking, write_picture

    def panel(rank: int, hit: "Hit") -> Panel:
        lines = [f"{rank}: {hit.similarity:.3f}  score {hit.score:.2f}", hit.path.name]
        return Panel(read_picture(hit.path), hit.box, lines)

    hits = (panel(rank, hit) for rank, hit in enumerate(result.hits, start=1))
    write_picture(draw_ranking(_query_panel(result.query), hits), out)
