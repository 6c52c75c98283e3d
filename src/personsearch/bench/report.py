"""From planned runs to what is shown: sections, pictures, one Markdown document."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from personsearch.bench import figures, tables
from personsearch.bench import floor as colours
from personsearch.bench.ablation import Ablation
from personsearch.bench.plan import Planner
from personsearch.bench.runs import Run, found
from personsearch.bench.summary import Results
from personsearch.errors import PersonSearchError

HEAD = """# Results

Every system and ablation on synthetic scenes, each run from nothing, under one evaluator. Figures \
are means over seeds ± the deviation between seeds; differences are taken seed by seed and stand \
± their standard error. A claim of a paper gets a yes or a no with three seeds or more. What \
stands in a paper's column was measured by its authors on their data, with far larger networks: \
compare directions, not numbers. Times are wall clock of runs that may have shared the machine \
with others.

Written by `personsearch bench systems --out docs/results.md`.
"""


def wanted(planner: Planner, ablations: Sequence[Ablation], seeds: int) -> list[Run]:
    """All runs of some ablations, the first seed of every variant before the second of any."""
    by_ablation = [planner.table(ablation, seeds) for ablation in ablations]
    return [runs[seed] for seed in range(seeds) for table in by_ablation for runs in table.values()]


def results(planner: Planner, ablation: Ablation, seeds: int) -> Results:
    """What is known of an ablation's runs."""
    return {
        name: [found(run, planner.runs, any_code=planner.any_code) for run in runs]
        for name, runs in planner.table(ablation, seeds).items()
    }


def floor(planner: Planner, ablation: Ablation) -> float:
    """What colour alone finds where the first variant is measured.

    NaN where no mAP is shown, or the data set is not drawn.
    """
    if not any(column.measure.startswith("mean_ap") for column in ablation.column):
        return math.nan
    first = ablation.shown[0]
    source = planner.source(ablation, first.test or first.train)
    return colours.floor(source, planner.runs).get("mean_ap", math.nan)


def document(
    planner: Planner, ablation: Ablation, seeds: int, out: Path | None, level: int = 2
) -> str:
    """A section of Markdown; one that cannot be planned says why.

    Args:
        planner: of the runs.
        ablation: what is shown.
        seeds: how many.
        out: the document, beside which pictures go into ``images``; None for no pictures.
        level: of the heading.
    """
    try:
        known = results(planner, ablation, seeds)
    except PersonSearchError as error:
        return f"{'#' * level} {ablation.name}: {ablation.title}\n\nNot run: {error}\n"
    pictures: list[str] = []
    if out is not None:
        drawn = figures.draw(ablation, known, out.parent / "images")
        pictures = [os.path.relpath(picture, out.parent) for picture in drawn]
    section = tables.section(ablation, known, floor(planner, ablation))
    return tables.document(section, level, pictures)
