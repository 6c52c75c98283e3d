"""From planned runs to a report: results, the color floor, one Markdown document."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from personsearch.bench import charts, tables
from personsearch.bench.ablation import Ablation
from personsearch.bench.claims import Results
from personsearch.bench.data import NOT_DRAWN, Source, opened
from personsearch.bench.files import read_json, write_json
from personsearch.bench.measure import usual_protocol
from personsearch.bench.plan import Planner
from personsearch.bench.runs import Run, found
from personsearch.bench.tables import Section
from personsearch.classical.hsv_histogram import extract
from personsearch.errors import PersonSearchError
from personsearch.evaluation.runner import embed_queries, ground_truth_detections
from personsearch.evaluation.search import evaluate_search
from personsearch.systems.crop_embedders import ExtractorEmbedder
from personsearch.systems.two_step import TwoStep

HEAD = """# Results

Every system and ablation on synthetic scenes, under one evaluator. Numbers are means over seeds ± \
the deviation between seeds; differences are taken seed by seed and stand ± half their 95 % t \
interval. A claim of a paper is answered with five seeds or more: shown, opposite, or not resolved \
at this size. A paper's column holds what its authors measured on their data, with far larger \
networks: compare directions, not numbers. Controls are rows of ours. Times are wall clock of runs \
that may have shared the machine with others.

Written by `personsearch bench systems --out docs/results.md`.
"""


def wanted(planner: Planner, ablations: Sequence[Ablation], seeds: int) -> list[Run]:
    """Return all runs: by priority, the first seed of every variant before the second of any."""
    runs = []
    for priority in sorted({ablation.priority for ablation in ablations}, reverse=True):
        chosen = [ablation for ablation in ablations if ablation.priority == priority]
        by_ablation = [planner.table(ablation, seeds) for ablation in chosen]
        runs += [
            of_variant[seed]
            for seed in range(seeds)
            for table in by_ablation
            for of_variant in table.values()
        ]
    return runs


def results(planner: Planner, ablation: Ablation, seeds: int) -> Results:
    return {
        name: [found(run, planner.runs, any_code=planner.any_code) for run in runs]
        for name, runs in planner.table(ablation, seeds).items()
    }


def sections(planner: Planner, ablations: Sequence[Ablation], seeds: int) -> list[Section]:
    """Return the sections of a report; one that cannot be planned says why."""
    known: list[tuple[Ablation, Results, float]] = []
    problems = {}
    for ablation in ablations:
        try:
            ours = results(planner, ablation, seeds)
            known.append((ablation, ours, floor(planner, ablation)))
        except PersonSearchError as error:
            problems[ablation.name] = str(error)
            known.append((ablation, {}, math.nan))
    made = tables.sections(known)
    return [replace(one, problem=problems.get(one.ablation.name, "")) for one in made]


def floor(planner: Planner, ablation: Ablation) -> float:
    """Return the floor of the first variant's data set; NaN without mAP or pictures."""
    if not any(column.measure.startswith("mean_ap") for column in ablation.column):
        return math.nan
    first = ablation.shown[0]
    tested = first.test or first.train
    try:
        source = planner.source(ablation, tested)
        return color_floor(source, planner.runs, planner.protocol(ablation, tested))
    except PersonSearchError:
        return math.nan


def color_floor(source: Source, runs: Path, protocol: str = "") -> float:
    """Return the mAP of an HSV histogram on annotated boxes, which every model has to beat.

    It is computed once for a data set and kept below the folder of runs. NaN if the data set is not
    drawn.
    """
    if source.fingerprint == NOT_DRAWN:
        return math.nan
    file = runs / "floors" / f"{'-'.join(filter(None, (source.fingerprint, protocol)))}.json"
    known = read_json(file)
    if known is None:
        dataset, model = opened(source.folder), TwoStep(None, ExtractorEmbedder(extract))
        scenes, usual = dataset.split("test"), usual_protocol(dataset, protocol)
        truth = ground_truth_detections(model, scenes)
        queries = embed_queries(model, usual, scenes)
        known = {"mean_ap": float(evaluate_search(usual, truth, queries).mean_ap)}
        with suppress(OSError):  # a folder that cannot be written is still shown
            write_json(file, known)
    return float(known["mean_ap"])


def document(one: Section, out: Path | None, level: int = 2) -> str:
    """Return a section in Markdown, with a heading of that level.

    Charts go into ``images`` beside the document `out`; without one there are none.
    """
    drawn = charts.draw(one.ablation, one.results, out.parent / "images") if out else []
    return tables.document(one, level, [f"images/{picture.name}" for picture in drawn])


def whole(sections: Sequence[Section], out: Path) -> list[str]:
    """Return the parts of `out`: what was run, and a list of what was not.

    A table of which one row was run, because another table has that row too, compares nothing.
    """
    compared = [
        one
        for one in sections
        if one.problem or _finished_rows(one) >= min(2, len(one.ablation.shown))
    ]
    missing = [one.ablation for one in sections if one not in compared]
    parts = [HEAD, *(document(one, out) for one in compared)]
    if missing:
        parts += ["## Not run\n", *(f"- {one.name}: {one.title}" for one in missing), ""]
    return parts


def _finished_rows(one: Section) -> int:
    return sum(any(each.finished for each in ours) for ours in one.results.values())
