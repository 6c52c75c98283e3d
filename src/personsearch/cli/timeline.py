"""`personsearch timeline`: where and when a person was seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import options
from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.search.people_search import Match
    from personsearch.search.timeline import Sighting


def timeline(
    query_image: options.QueryArgument = None,
    store: options.StoreOption = None,
    model: Annotated[str | None, typer.Option(help="Default: the store's own.")] = None,
    box: options.BoxOption = None,
    example: options.ExampleOption = None,
    person: options.PersonOption = None,
    unlike: options.UnlikeOption = None,
    camera: options.CameraOption = None,
    source: options.SourceOption = None,
    since: options.SinceOption = None,
    until: options.UntilOption = None,
    score_threshold: options.ScoreOption = 0.5,
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
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Where and when a person was seen, camera by camera.

    Matches above a probability or a similarity are joined where they are close in time. A
    similarity is not a probability: without `personsearch calibrate`, see what `search` finds, then
    choose.

    Example: personsearch timeline --person 12 --min-similarity 0.7 --out line.svg
    """
    from personsearch.search import timeline as sightings

    options.check_suffix(out, (".svg", ".png"), "--out")
    if min_chance is not None:
        echo("warning: --min-chance is deprecated; use --min-probability", err=True)
        min_probability = min_chance if min_probability is None else min_probability
    filters = options.make_filters(camera, source, since, until, min_score=score_threshold)
    request = options.make_request(
        query_image, box, example, person, unlike, filters=filters, top=top
    )
    with options.open_for_search(store, model, device) as archive:
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
        options.print_json({"sightings": [one.as_json() for one in found]})
    elif not found:
        limits = {"probability": min_probability, "similarity": min_similarity}
        least = " and ".join(f"{k} {v:g}" for k, v in limits.items() if v is not None)
        echo(f"no match reaches {least}; the best has {_best(result.matches)}")
    else:
        _print(found, result.searched is not None)
        if sum(len(one.matches) for one in found) == top:
            echo(f"the {top} best matches are all in it; --top may show more", err=True)
        if out is not None:
            echo(f"drawn to {out}", err=True)


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
        begin, end = options.show_time(one.begin), options.show_time(one.end)
        if one.first is not None and one.last is not None:
            begin, end = options.show_position(one.first), options.show_position(one.last)
        row = [one.camera or "", begin, end, "" if one.path is None else one.path.name]
        row += [str(len(one.matches)), f"{one.similarity:.3f}"]
        row += [show_probability(one.probability)] if calibrated else []
        rows.append([*row, str(one.matches[0].person.id)])
    columns = ["camera", "from", "to", "file", "views", "similarity"]
    columns += ["probability"] if calibrated else []
    options.print_table([*columns, "person"], rows, no_wrap=("from", "to"))
