"""`personsearch search`: one person, looked for in a store or in a folder of pictures."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.cli.store_folder import StoreOption, parse_time, store_place

if TYPE_CHECKING:
    from personsearch.search.folder_search import GalleryResult, QueryPerson
    from personsearch.systems.base import PersonSearchModel


def parse_box(text: str | None) -> tuple[float, float, float, float] | None:
    """``x1,y1,x2,y2`` as four numbers.

    Raises:
        typer.BadParameter: not four numbers, or not x1 < x2 and y1 < y2.
    """
    if text is None:
        return None
    try:
        sides = [float(part) for part in text.split(",")]
    except ValueError:
        sides = []
    # The comparisons also refuse NaN.
    if len(sides) != 4 or not (sides[0] < sides[2] and sides[1] < sides[3]):
        raise typer.BadParameter(
            f"{text!r} is not a box; expected x1,y1,x2,y2 in pixels with x1 < x2 and y1 < y2"
        )
    if any(abs(side) == float("inf") for side in sides):
        raise typer.BadParameter(f"{text!r}: expected finite numbers")
    return (sides[0], sides[1], sides[2], sides[3])


def parse_example(text: str) -> tuple[Path, tuple[float, float, float, float] | None]:
    """``PICTURE`` or ``PICTURE:x1,y1,x2,y2``.

    Raises:
        typer.BadParameter: what follows the last colon has commas, but is no box.
    """
    before, colon, after = text.rpartition(":")
    # A colon may be part of a name; four parts are meant as a box.
    if colon and before and after.count(",") == 3:
        return Path(before), parse_box(after)
    return Path(text), None


class Rerank(StrEnum):
    """How the best few hundred are ranked again."""

    K_RECIPROCAL = "k-reciprocal"
    EXPANSION = "expansion"


def search(
    query_image: Annotated[
        Path | None, typer.Argument(help="A picture that shows the person.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--in", help="Folder of pictures to search, without a store.")
    ] = None,
    store: StoreOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint folder, a TOML that names two networks, or a published pair: omz; "
            "default with a store: its own."
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="X1,Y1,X2,Y2",
            help="Where the person is, in pixels; without it the surest person found.",
        ),
    ] = None,
    example: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PICTURE[:X1,Y1,X2,Y2]",
            help="One more picture that shows the person; repeatable.",
        ),
    ] = None,
    person: Annotated[
        list[int] | None,
        typer.Option(help="More like this one in the store, by number; repeatable."),
    ] = None,
    unlike: Annotated[
        list[int] | None, typer.Option(help="Not like this one in the store; repeatable.")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="Only of this camera; repeatable.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Only of this folder or file as indexed; repeatable.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only from then on: 2026-11-21T13:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Only before then.")] = None,
    min_height: Annotated[
        float | None, typer.Option(min=0.0, help="Only people at least so many pixels tall.")
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Every view of a track, not only the most alike.")
    ] = False,
    one_per_file: Annotated[
        bool, typer.Option("--one-per-file", help="Of a photo or video only the most alike.")
    ] = False,
    rerank: Annotated[
        Rerank | None, typer.Option(help="Rank the most alike again by who is like them.")
    ] = None,
    expected: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Views of the person that you expect there, for the chance; default: 1.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a picture of the hits (.jpg or .png).")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many hits to show.")] = 20,
    score_threshold: Annotated[
        float,
        typer.Option(
            "--score-threshold",
            "--score",
            min=0.0,
            max=1.0,
            help="Leave out people found with less.",
        ),
    ] = 0.5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Find one person in a store, or in a folder of pictures without one.

    Example: personsearch search me.jpg --box 40,60,120,300 --since 2026-11-01
    """
    corners = parse_box(box)
    if out is not None and out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise typer.BadParameter(
            f"{out}: expected a name ending in .jpg or .png", param_hint="--out"
        )
    about_store = {
        "--store": store,
        "--example": example,
        "--person": person,
        "--unlike": unlike,
        "--camera": camera,
        "--source": source,
        "--since": since,
        "--until": until,
        "--min-height": min_height,
        "--flat": flat or None,
        "--one-per-file": one_per_file or None,
        "--rerank": rerank,
        "--expected": expected,
    }
    if folder is not None:
        for name, given in about_store.items():
            if given is not None:
                raise typer.BadParameter(f"{name} and --in exclude each other", param_hint=name)
        if query_image is None:
            raise typer.BadParameter("a picture that shows the person is missing")
        if model is None:
            raise typer.BadParameter("--in needs --model", param_hint="--model")
        _search_folder(
            query_image, folder, model, corners, out, top, score_threshold, device, as_json
        )
        return
    if query_image is None and not person and not example:
        raise typer.BadParameter(
            "say who: a picture that shows the person, or --person with a number in the store"
        )
    if query_image is None and box is not None:
        raise typer.BadParameter("--box needs a picture", param_hint="--box")
    from personsearch.cli.store_search import search_in_store, source_places
    from personsearch.store import Filters

    search_in_store(
        store_place(store),
        query_image,
        corners,
        examples=[parse_example(text) for text in example or ()],
        people=person or [],
        unlike=unlike or [],
        filters=Filters(
            cameras=camera or None,
            since=parse_time(since),
            until=parse_time(until),
            min_score=score_threshold,
            min_height=min_height,
            sources=source_places(source) if source else None,
        ),
        model=model,
        device=device,
        top=top,
        grouped=not flat,
        one_a_file=one_per_file,
        rerank=None if rerank is None else rerank.value,
        expected=1.0 if expected is None else expected,
        out=out,
        as_json=as_json,
    )


def _search_folder(
    query_image: Path,
    folder: Path,
    model: str,
    corners: tuple[float, float, float, float] | None,
    out: Path | None,
    top: int,
    score_threshold: float,
    device: str,
    as_json: bool,
) -> None:
    """Searches pictures one by one, without a store."""
    import json

    from rich.console import Console
    from rich.progress import Progress

    from personsearch.loading import load
    from personsearch.search.folder_search import search_folder

    notes = Console(stderr=True)
    check_inside(query_image, corners)
    network = load(Path(model), choose_device(device)).eval()
    query = find_query(network, query_image, corners, notes if not as_json else None)
    with Progress(console=notes, transient=True, disable=as_json) as progress:
        task = progress.add_task("searching")
        result = search_folder(
            network,
            query,
            folder,
            top=top,
            score_threshold=score_threshold,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if out is not None:
        _write_picture(result, out)
    if as_json:
        print(json.dumps(result.as_json(), indent=2))
    else:
        _print_table(result, notes, out)
    if result.interrupted:
        raise typer.Exit(130)


def check_inside(query_image: Path, corners: tuple[float, float, float, float] | None) -> None:
    """A box beside the picture is wrong usage; found out before a model is loaded.

    Raises:
        typer.BadParameter: the box lies outside.
        PictureError: the picture cannot be read.
    """
    from personsearch.media.pictures import picture_size

    if corners is None:
        return
    width, height = picture_size(query_image)
    if corners[0] >= width or corners[1] >= height or corners[2] <= 0 or corners[3] <= 0:
        raise typer.BadParameter(
            f"{_comma(corners)} lies outside of {query_image}, which has {width} x {height} pixels",
            param_hint="--box",
        )


def find_query(
    network: "PersonSearchModel",
    query_image: Path,
    corners: tuple[float, float, float, float] | None,
    notes: Any,
) -> "QueryPerson":
    """The person in the box, or the surest one; `notes` is told who that is."""
    import numpy as np

    from personsearch.search.folder_search import query_person

    given = None if corners is None else np.array(corners, dtype=np.float32)
    query = query_person(network, query_image, given)
    if query.score is not None and notes is not None:
        say_who(notes, query)
    return query


def choose_device(name: str) -> str:
    """The device that is meant.

    Raises:
        typer.BadParameter: there is none of that name.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter(f"{name!r}: there is no CUDA device here", param_hint="--device")
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise typer.BadParameter(
            f"{name!r}: expected auto, cpu, cuda or cuda:N", param_hint="--device"
        ) from None


def say_who(notes: Any, query: "QueryPerson") -> None:
    """Tells who is looked for, and who else is there, where no box was given."""
    assert query.others is not None
    notes.print(
        f"no --box: looking for the surest person in {query.path}, "
        f"box {_comma(query.box)} (score {query.score:.2f})",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    for box, score in zip(query.others.boxes, query.others.scores, strict=True):
        notes.print(f"  also there: --box {_comma(box)} (score {score:.2f})", highlight=False)


def _comma(box: Any) -> str:
    return ",".join(f"{side:.0f}" for side in box)


def _print_table(result: "GalleryResult", notes: Any, out: Path | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("rank", "picture", "box", "similarity", "score")
    for rank, hit in enumerate(result.hits, start=1):
        table.add_row(
            str(rank),
            escape(hit.scene),
            _comma(hit.box),
            f"{hit.similarity:.3f}",
            f"{hit.score:.2f}",
        )
    Console().print(table)
    excluded = ", without the query's own picture" if result.excluded else ""
    stopped = ", stopped early" if result.interrupted else ""
    people = "1 person" if result.people == 1 else f"{result.people} people"
    pictures = "1 picture" if result.pictures == 1 else f"{result.pictures} pictures"
    notes.print(f"{people} in {pictures}{excluded}{stopped}", highlight=False)
    if result.unreadable:
        notes.print(f"{len(result.unreadable)} could not be read:", highlight=False)
        for item in result.unreadable:
            notes.print(f"  {item.path}: {item.reason}", soft_wrap=True, markup=False)
    if out is not None:
        notes.print(f"hits drawn to {out}", soft_wrap=True, markup=False, highlight=False)


def _write_picture(result: "GalleryResult", out: Path) -> None:
    from personsearch.media.pictures import read_picture
    from personsearch.plots.rankings import Panel, draw_ranking, write_picture

    name = result.query.path.name
    query = Panel(read_picture(result.query.path), result.query.box, ["query", name])
    hits = (
        Panel(
            read_picture(hit.path),
            hit.box,
            [f"{rank}: {hit.similarity:.3f}  score {hit.score:.2f}", hit.path.name],
        )
        for rank, hit in enumerate(result.hits, start=1)
    )
    write_picture(draw_ranking(query, hits), out)
