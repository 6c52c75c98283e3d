"""`personsearch timeline`: where else and when a person was seen."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.store_folder import StoreOption, parse_time, show_time, store_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from personsearch.search.people_search import Match
    from personsearch.search.timeline import Sighting


def timeline(
    query_image: Annotated[
        Path | None, typer.Argument(help="A picture that shows the person.")
    ] = None,
    store: StoreOption = None,
    model: Annotated[str | None, typer.Option(help="Default: the store's own.")] = None,
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
        list[int] | None, typer.Option(help="A person's number in the store; repeatable.")
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
    min_similarity: Annotated[
        float | None, typer.Option(min=-1.0, max=1.0, help="Leave out matches below.")
    ] = None,
    min_chance: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Leave out matches below; default in a calibrated store: 0.5."
        ),
    ] = None,
    gap: Annotated[
        float, typer.Option(min=0.0, help="Seconds between views that are still one sighting.")
    ] = 300.0,
    top: Annotated[int, typer.Option(min=1, help="How many matches to look at.")] = 500,
    out: Annotated[Path | None, typer.Option(help="Draw it (.svg or .png).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Where and when a person was seen, camera by camera.

    Matches above a chance or a similarity are joined where they are close in time. A similarity is
    no chance: without `personsearch calibrate`, look at what `search` finds, then choose.

    Example: personsearch timeline --person 12 --min-similarity 0.7 --out line.svg
    """
    import json

    from personsearch.cli.search import check_inside, choose_device, parse_box, parse_example
    from personsearch.cli.store_search import log_search_there, source_places
    from personsearch.search import timeline as sightings
    from personsearch.search.archive import open_archive
    from personsearch.store import Filters

    corners = parse_box(box)
    if out is not None and out.suffix.lower() not in (".svg", ".png"):
        raise typer.BadParameter(
            f"{out}: expected a name ending in .svg or .png", param_hint="--out"
        )
    if query_image is None and not person and not example:
        raise typer.BadParameter(
            "say who: a picture that shows the person, or --person with a number in the store"
        )
    if query_image is None and box is not None:
        raise typer.BadParameter("--box needs a picture", param_hint="--box")
    filters = Filters(
        cameras=camera or None,
        since=parse_time(since),
        until=parse_time(until),
        min_score=score_threshold,
        sources=source_places(source) if source else None,
    )
    pictures = [*([] if query_image is None else [(query_image, corners)])]
    pictures += [parse_example(text) for text in example or ()]
    for picture, place in pictures:
        check_inside(picture, place)
    place_of_store = store_place(store)
    with open_archive(place_of_store, model=model, device=choose_device(device)) as archive:
        if min_chance is None and min_similarity is None:
            if archive.calibration is None:
                raise typer.BadParameter(
                    "this store has no calibration, so --min-similarity is needed: look at what "
                    "search finds, and choose"
                )
            min_chance = 0.5
        result = archive.search(
            examples=pictures, people=person or [], unlike=unlike or [], filters=filters, top=top
        )
        log_search_there(place_of_store, pictures, result, person or [], unlike or [], filters, top)
    if min_chance is not None and result.searched is None:
        raise typer.BadParameter(
            "a chance needs a calibrated store and one example without --unlike; "
            "use --min-similarity",
            param_hint="--min-chance",
        )
    found = sightings.timeline(
        result.matches,
        min_similarity=-1.0 if min_similarity is None else min_similarity,
        min_probability=min_chance,
        gap=gap,
    )
    if out is not None:
        from personsearch.plots.timelines import plot_timeline

        plot_timeline(found, out)
    if as_json:
        print(json.dumps({"sightings": [one.as_json() for one in found]}, indent=2))
    elif not found:
        least = f"chance {min_chance:g}" if min_chance is not None else ""
        if min_similarity is not None:
            least += f"{' and ' if least else ''}similarity {min_similarity:g}"
        typer.echo(f"no match reaches {least}; the best has {_best(result.matches)}")
    else:
        _print(found, result.searched is not None)
        if sum(len(one.matches) for one in found) == top:
            typer.echo(f"the {top} best matches are all in it; --top may show more", err=True)
        if out is not None:
            typer.echo(f"drawn to {out}", err=True)


def _best(matches: "Sequence[Match]") -> str:
    if not matches:
        return "nothing, for nobody is left by these filters"
    from personsearch.search.calibration import show_chance

    best = matches[0]
    chance = "" if best.probability is None else f", chance {show_chance(best.probability)}"
    return f"similarity {best.similarity:.3f}{chance}"


def _print(found: "list[Sighting]", calibrated: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from personsearch.cli.store_search import clock
    from personsearch.search.calibration import show_chance

    table = Table("camera")
    for name in ("from", "to"):
        table.add_column(name, no_wrap=True)
    for name in ("file", "views", "similarity", *(["chance"] if calibrated else []), "person"):
        table.add_column(name)
    for one in found:
        begin, end = show_time(one.begin), show_time(one.end)
        if one.first is not None and one.last is not None:
            begin, end = clock(one.first), clock(one.last)
        table.add_row(
            escape(one.camera or ""),
            begin,
            end,
            escape("" if one.path is None else one.path.name),
            str(len(one.matches)),
            f"{one.similarity:.3f}",
            *([show_chance(one.probability)] if calibrated else []),
            str(one.matches[0].person.id),
        )
    Console().print(table)
