"""`personsearch timeline`: where and when a person was seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.options import (
    BoxOption,
    CameraOption,
    DeviceOption,
    ExampleOption,
    JsonOption,
    PersonOption,
    QueryArgument,
    ScoreOption,
    SinceOption,
    SourceOption,
    StoreOption,
    UnlikeOption,
    UntilOption,
    check_suffix,
    make_filters,
    make_request,
    open_for_search,
    print_table,
    show_position,
    show_time,
)

if TYPE_CHECKING:
    from personsearch.search.people_search import Match
    from personsearch.search.timeline import Sighting


def timeline(
    query_image: QueryArgument = None,
    store: StoreOption = None,
    model: Annotated[str | None, typer.Option(help="Default: the store's own.")] = None,
    box: BoxOption = None,
    example: ExampleOption = None,
    person: PersonOption = None,
    unlike: UnlikeOption = None,
    camera: CameraOption = None,
    source: SourceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    score_threshold: ScoreOption = 0.5,
    min_similarity: Annotated[
        float | None, typer.Option(min=-1.0, max=1.0, help="Leave out matches below.")
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Leave out matches below; default in a calibrated store: 0.5."
        ),
    ] = None,
    min_chance: Annotated[float | None, typer.Option(min=0.0, max=1.0, hidden=True)] = None,
    gap: Annotated[
        float, typer.Option(min=0.0, help="Seconds between views that are still one sighting.")
    ] = 300.0,
    top: Annotated[int, typer.Option(min=1, help="How many matches to consider.")] = 500,
    out: Annotated[Path | None, typer.Option(help="Draw it (.svg or .png).")] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Where and when a person was seen, camera by camera.

    Matches above a probability or a similarity are joined where they are close in time. A
    similarity is not a probability: without `personsearch calibrate`, see what `search` finds, then
    choose.

    Example: personsearch timeline --person 12 --min-similarity 0.7 --out line.svg
    """
    import json

    from personsearch.search import timeline as sightings

    check_suffix(out, (".svg", ".png"), "--out")
    if min_chance is not None:
        typer.echo("warning: --min-chance is deprecated; use --min-probability", err=True)
        min_probability = min_chance if min_probability is None else min_probability
    filters = make_filters(camera, source, since, until, min_score=score_threshold)
    request = make_request(query_image, box, example, person, unlike, filters=filters, top=top)
    with open_for_search(store, model, device) as archive:
        if min_probability is None and min_similarity is None:
            if archive.calibration is None:
                raise typer.BadParameter(
                    "this store has no calibration, so --min-similarity is needed: see what "
                    "search finds, and choose"
                )
            min_probability = 0.5
        result = archive.search_by(request)
    if min_probability is not None and result.searched is None:
        raise typer.BadParameter(
            "a probability needs a calibrated store and one example without --unlike; "
            "use --min-similarity",
            param_hint="--min-probability",
        )
    found = sightings.timeline(
        result.matches,
        min_similarity=-1.0 if min_similarity is None else min_similarity,
        min_probability=min_probability,
        gap=gap,
    )
    if out is not None:
        from personsearch.plots.timelines import plot_timeline

        plot_timeline(found, out)
    if as_json:
        print(json.dumps({"sightings": [one.as_json() for one in found]}, indent=2))
    elif not found:
        limits = {"probability": min_probability, "similarity": min_similarity}
        least = " and ".join(f"{k} {v:g}" for k, v in limits.items() if v is not None)
        typer.echo(f"no match reaches {least}; the best has {_best(result.matches)}")
    else:
        _print(found, result.searched is not None)
        if sum(len(one.matches) for one in found) == top:
            typer.echo(f"the {top} best matches are all in it; --top may show more", err=True)
        if out is not None:
            typer.echo(f"drawn to {out}", err=True)


def _best(matches: "Sequence[Match]") -> str:
    if not matches:
        return "nothing, since nobody passes these filters"
    from personsearch.search.calibration import show_probability

    best = matches[0]
    more = "" if best.probability is None else f", probability {show_probability(best.probability)}"
    return f"similarity {best.similarity:.3f}{more}"


def _print(found: "Sequence[Sighting]", calibrated: bool) -> None:
    from personsearch.search.calibration import show_probability

    rows = []
    for one in found:
        begin, end = show_time(one.begin), show_time(one.end)
        if one.first is not None and one.last is not None:
            begin, end = show_position(one.first), show_position(one.last)
        row = [one.camera or "", begin, end, "" if one.path is None else one.path.name]
        row += [str(len(one.matches)), f"{one.similarity:.3f}"]
        row += [show_probability(one.probability)] if calibrated else []
        rows.append([*row, str(one.matches[0].person.id)])
    columns = ["camera", "from", "to", "file", "views", "similarity"]
    columns += ["probability"] if calibrated else []
    print_table([*columns, "person"], rows, no_wrap=("from", "to"))
