"""All tables and figures of one paper: their cost, and a page that shows them."""

import base64
import html
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from personsearch.bench import charts, fingerprint, report, tables
from personsearch.bench.ablation import Ablation, ablation_names, read_ablation
from personsearch.bench.binding import Binding, bound, read_binding
from personsearch.bench.estimate import Estimate
from personsearch.bench.plan import Planner
from personsearch.bench.runs import Run, found
from personsearch.bench.tables import Section
from personsearch.durable import make_writable
from personsearch.errors import DataError
from personsearch.plots import pages
from personsearch.plots.tables import comparison_tables

SPARE = 2e9
"""Bytes that stay free on the disk."""


@dataclass(frozen=True)
class Plan:
    """The tables of a paper, and the runs of those that can be run on the data sets given."""

    paper: Binding
    ablations: Sequence[Ablation]
    runs: Sequence[Run]
    problems: Mapping[str, str]  # table -> why none of its rows can be run


def plan(planner: Planner, paper: str, seeds: int) -> Plan:
    """Plan all tables of a paper.

    Raises:
        RecipeError: no such paper.
        DataError: no table can be run on the data sets that were given.
    """
    binding = read_binding(paper)
    names = [name for name in ablation_names() if name.partition("-")[0] == paper]
    ablations = [bound(read_ablation(name), planner.scale) for name in names]
    possible, problems = planner.possible_of(ablations)
    if problems and not any(one.shown for one in possible.values()):
        raise DataError(next(iter(problems.values())))
    runs = report.wanted(planner, list(possible.values()), seeds)
    return Plan(binding, [possible.get(one.name, one) for one in ablations], runs, problems)


def of_other_code(runs: Sequence[Run], folder: Path) -> int:
    """Return how many runs are finished in a folder by another version of the code alone."""
    return sum(found(run, folder, any_code=True).other_code for run in runs)


def check_place(paper: Binding, out: Path) -> None:
    """Raise DataError unless a paper's page can be written into a folder, over none but its own."""
    try:
        make_writable(out)
        for page in filter(Path.exists, (out / "page.html", out / "page.md")):
            if paper.title not in html.unescape(page.read_text("utf-8", errors="replace")):
                raise DataError(
                    f"{page}: is not a page of {paper.name!r} and would be replaced; give --out "
                    "another folder"
                )
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error}); give --out another folder") from None


def check_disk(cost: Estimate, folder: Path) -> None:
    """Raise DataError if the disk of a folder is too small for the runs."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if cost.bytes + SPARE > free:
        raise DataError(
            f"{folder}: the runs need {cost.bytes / 1e9:.1f} GB and {SPARE / 1e9:.0f} GB to spare, "
            f"but {free / 1e9:.1f} GB are free; give --out on a larger disk"
        )


def missing(sections: Sequence[Section], seeds: int) -> list[str]:
    """Return a line for each table or row that is not complete."""
    lines = []
    for one in sections:
        if one.problem:
            lines.append(f"{one.ablation.name}: not run: {one.problem}")
        for variant in () if one.problem else one.ablation.shown:
            done = sum(result.finished for result in one.results.get(variant.name, ()))
            if variant.left_out:
                lines.append(f"{one.ablation.name}, {variant.title}: {variant.left_out}")
            elif done < seeds:
                lines.append(f"{one.ablation.name}, {variant.title}: {done} of {seeds} seeds")
    return lines


def facts(planner: Planner, sections: Sequence[Section], seeds: int) -> dict[str, str]:
    """Return how the page was made: code, data, seeds, machines."""
    results = [r for one in sections for ours in one.results.values() for r in ours if r.finished]

    def of_runs(key: str) -> str:
        return "; ".join(sorted({r.machine.get(key, "not recorded") for r in results})) or "none"

    sources = {f"{s.folder.name}: {s.fingerprint}" for s in planner.sources}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "scale": planner.scale,
        "seeds": str(seeds),
        "finished runs shown": str(len(results)),
        "code of this page": fingerprint.commit(),
        "code of the runs": of_runs("commit"),
        "data sets, with fingerprints": "; ".join(sorted(sources)) or "none",
        "device of the runs": of_runs("device"),
        "PyTorch of the runs": of_runs("torch"),
        "machine of this page": f"{platform.platform()}, {os.cpu_count()} processor cores",
    }


def write_page(
    planner: Planner, paper: Binding, sections: Sequence[Section], seeds: int, out: Path
) -> Path:
    """Write ``page.html`` and ``page.md`` with charts beside it; return the former.

    Raises:
        DataError: a file cannot be written.
    """
    known, absent = facts(planner, sections, seeds), missing(sections, seeds)
    # A title begins with authors and year, such as "Han et al. 2021, ...".
    compared = comparison_tables(paper.title.partition(",")[0].replace(" et al.", ""))
    drawn = {
        one.ablation.name: charts.draw(one.ablation, one.results, out / "images")
        for one in sections
    }
    text = pages.render(
        "personsearch.bench",
        {},
        title=paper.title,
        facts=known,
        missing=absent,
        sections=sections,
        compared=compared,
        tables=tables,
        charts={name: [_address(path) for path in paths] for name, paths in drawn.items()},
    )
    lines = [f"# {paper.title}", "\n".join(f"- {key}: {value}" for key, value in known.items())]
    lines += ["## Not complete", "\n".join(f"- {line}" for line in absent)] if absent else []
    for one in sections:
        pictures = [f"images/{path.name}" for path in drawn[one.ablation.name]]
        lines.append(tables.document(one, 2, pictures))
    lines += [f"## {one.title}\n\n{tables.markdown(one)}" for one in compared]
    page = out / "page.html"
    pages.write(page, text, parents=True)
    pages.write(page.with_suffix(".md"), "\n\n".join(lines))
    return page


def _address(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")
