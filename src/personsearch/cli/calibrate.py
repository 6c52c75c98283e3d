"""`personsearch calibrate`: turn similarities into probabilities, by labelled pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.cli import options
from personsearch.terminal import echo

if TYPE_CHECKING:
    from personsearch.search.calibration import Calibration

CROWDS = (10, 100, 1000, 10_000)
"""Numbers of people for which error rates are shown."""


def calibrate(
    datasets: Annotated[
        list[Path],
        typer.Argument(help="Labelled pictures: anything that 'personsearch data stats' reads."),
    ],
    store: options.StoreOption = None,
    model: Annotated[str | None, typer.Option(help="Default: the store's own.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Default: test where there is one, else everything.")
    ] = None,
    across: Annotated[
        str | None,
        typer.Option(
            help="Pairs of two 'cameras' or two 'pictures'; default: cameras where enough people "
            "are seen by two."
        ),
    ] = None,
    true_boxes: Annotated[
        bool, typer.Option("--true-boxes", help="Labelled boxes instead of detections.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw a reliability diagram (.png or .svg).")
    ] = None,
    device: options.DeviceOption = "auto",
    json_output: options.JsonOption = False,
) -> None:
    """Calibrate a store on labelled pictures.

    From then on searches show the probability that a match is the same person, given the number of
    people searched. It holds for people and cameras like those of the labelled pictures.

    Example: personsearch calibrate labelled/ --store people --plot reliability.png
    """
    from personsearch.cli.progress import StepProgress
    from personsearch.datasets import open_dataset
    from personsearch.errors import DataError
    from personsearch.search.archive import open_archive
    from personsearch.search.calibration import fit_calibration, write_calibration
    from personsearch.search.labelled_pairs import embed_people, make_pairs

    if across not in (None, "cameras", "pictures"):
        raise typer.BadParameter(f"{across!r}: expected cameras or pictures", param_hint="--across")
    options.check_suffix(plot, (".png", ".svg"), "--plot")
    folder = options.store_folder(store)
    with open_archive(folder, model=model, device=options.check_device(device)) as archive:
        opened = [open_dataset(path) for path in datasets]
        parts = []
        for one in opened:
            wanted = split or ("test" if "test" in one.splits else None)
            scenes = list(one if wanted is None else one.split(wanted))
            if not scenes:
                raise DataError(f"{one.root}: no pictures in it")
            with StepProgress() as bars:
                step, network = bars.step("detecting"), archive.network
                parts.append(embed_people(network, scenes, true_boxes=true_boxes, progress=step))
        # `across` is one of the two names: the option is a text, which was checked.
        pairs = make_pairs(parts, across)  # type: ignore[arg-type]
        found = fit_calibration(pairs, archive.engine.model, tuple(one.name for one in opened))
    path = write_calibration(found, folder)
    if plot is not None:
        from personsearch.plots.reliability import plot_reliability

        plot_reliability(found, plot)
    if json_output:
        options.print_json({"written": str(path), **_metrics(found)})
    else:
        _print(found, path)


def _metrics(found: "Calibration") -> dict[str, Any]:
    from personsearch.search.calibration import CURVES

    plain = {name: value for name, value in found.as_json().items() if name not in CURVES}
    plain["crowds"] = [
        {
            "others": crowd,
            "wrong_first": found.wrong_first(crowd),
            "even_chance_from": found.similarity_for(0.5, crowd),
            "sure_from": found.similarity_for(0.95, crowd),
        }
        for crowd in CROWDS
    ]
    return plain


def _print(found: "Calibration", path: Path) -> None:
    counts = found.counts
    echo(
        f"{counts['same']} pairs of {counts['identities']} people and {counts['other']} pairs of "
        f"two people, in different {found.across}"
    )
    echo(
        f"map: {found.method}; calibration error on held-out people "
        f"{100 * found.errors[1]:.1f} points at even odds"
    )
    rows = []
    for crowd in CROWDS:
        limits = [found.similarity_for(level, crowd) for level in (0.5, 0.95)]
        shown = ["never" if limit is None else f"{limit:.2f}" for limit in limits]
        rows.append([f"{crowd:,}", f"{100 * found.wrong_first(crowd):.0f} %", *shown])
    options.print_table(("others", "someone else comes first", "50 % from", "95 % from"), rows)
    echo(f"written to {path}")
