"""From planned runs to a report: results, the color floor, one Markdown document."""

import math
from collections.abc import Sequence
from pathlib import Path

from personsearch.bench import charts, tables
from personsearch.bench.ablation import Ablation
from personsearch.bench.data import NOT_DRAWN, Source, opened
from personsearch.bench.files import read_json, write_json
from personsearch.bench.measure import usual_protocol
from personsearch.bench.plan import Planner
from personsearch.bench.runs import Run, found
from personsearch.bench.tables import Results
from personsearch.classical.hsv_histogram import extract
from personsearch.errors import PersonSearchError
from personsearch.evaluation.runner import embed_queries, ground_truth_detections
from personsearch.evaluation.search import evaluate_search
from personsearch.systems.crop_embedders import ExtractorEmbedder
from personsearch.systems.two_step import TwoStep

HEAD = """# Results

Every system and ablation on synthetic scenes, each run from nothing, under one evaluator. Numbers \
are means over seeds ± the deviation between seeds; differences are taken seed by seed and stand \
± their standard error. A claim of a paper gets a yes or a no with three seeds or more. A \
paper's column holds what its authors measured on their data, with far larger networks: \
compare directions, not numbers. Times are wall clock of runs that may have shared the machine \
with others.

Written by `personsearch bench systems --out docs/results.md`.
"""


def wanted(planner: Planner, ablations: Sequence[Ablation], seeds: int) -> list[Run]:
    """Return all runs, the first seed of every variant before the second of any."""
    by_ablation = [planner.table(ablation, seeds) for ablation in ablations]
    return [runs[seed] for seed in range(seeds) for table in by_ablation for runs in table.values()]


def results(planner: Planner, ablation: Ablation, seeds: int) -> Results:
    return {
        name: [found(run, planner.runs, any_code=planner.any_code) for run in runs]
        for name, runs in planner.table(ablation, seeds).items()
    }


def floor(planner: Planner, ablation: Ablation) -> float:
    """Return the floor of the first variant's data set; NaN without mAP, or if it is not drawn."""
    if not any(column.measure.startswith("mean_ap") for column in ablation.column):
        return math.nan
    first = ablation.shown[0]
    return color_floor(planner.source(ablation, first.test or first.train), planner.runs)


def color_floor(source: Source, runs: Path) -> float:
    """Return the mAP of an HSV histogram on annotated boxes, which every model has to beat.

    It is computed once for a data set and kept below the folder of runs. NaN if the data set is not
    drawn.
    """
    if source.fingerprint == NOT_DRAWN:
        return math.nan
    file = runs / "floors" / f"{source.fingerprint}.json"
    known = read_json(file)
    if known is None:
        dataset, model = opened(source.folder), TwoStep(None, ExtractorEmbedder(extract))
        scenes, protocol = dataset.split("test"), usual_protocol(dataset)
        truth = ground_truth_detections(model, scenes)
        queries = embed_queries(model, protocol, scenes)
        known = {"mean_ap": float(evaluate_search(protocol, truth, queries).mean_ap)}
        write_json(file, known)
    return float(known["mean_ap"])


def document(
    planner: Planner, ablation: Ablation, seeds: int, out: Path | None, level: int = 2
) -> str:
    """Return a section of Markdown, with a heading of that level; why, if it cannot be planned.

    Charts go into ``images`` beside the document `out`; without one there are none.
    """
    try:
        known = results(planner, ablation, seeds)
    except PersonSearchError as error:
        return f"{'#' * level} {ablation.name}: {ablation.title}\n\nNot run: {error}\n"
    drawn = charts.draw(ablation, known, out.parent / "images") if out else []
    pictures = [f"images/{picture.name}" for picture in drawn]
    section = tables.section(ablation, known, floor(planner, ablation))
    return tables.document(section, level, pictures)
