"""One page that shows what a system does: figures, queries with their hits, how it was made.

The page is a single file. Nothing in it is fetched and nothing is run: pictures are ``data:``
addresses, charts are SVG, and its content security policy allows its own style and no more.
"""

import base64
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from personsearch.datasets.dataset import Dataset
from personsearch.demo.embedded import jpeg_address, whole_scene
from personsearch.demo.line_chart import line_chart
from personsearch.demo.markup import Markup, element, join
from personsearch.demo.showcase import Example
from personsearch.errors import DataError
from personsearch.evaluation.comparison import Comparison
from personsearch.evaluation.scoring import RankedHit
from personsearch.media.pictures import read_scene
from personsearch.plots.rankings import GREEN, RED, Picture, thumbnail
from personsearch.plots.tables import TextTable, detection_table, percent, search_table
from personsearch.types import Scene

_KEPT_PICTURES = 32  # decoded pictures at a time; hits of one query share few scenes with others


@dataclass(frozen=True, eq=False)
class Result:
    """What was measured on one data set.

    Attributes:
        dataset: its ``test`` split holds the scenes of the first protocol.
        compared: the figures; its first row's protocol is the one whose queries are shown.
        examples: queries of that protocol with their hits.
    """

    dataset: Dataset
    compared: Comparison
    examples: Sequence[Example]


@dataclass(frozen=True)
class Step:
    """Something that was done, and how long it took.

    Attributes:
        name: what was done.
        seconds: how long it took.
        earlier: an earlier run did it, and this one used what was there.
    """

    name: str
    seconds: float
    earlier: bool = False


@dataclass(frozen=True, eq=False)
class Page:
    """Everything that the page says.

    Attributes:
        title: one line.
        summary: one sentence that says what it is.
        results: a data set each.
        log: the reports of the training run, see `training.loop.read_log`; empty without one.
        steps: in the order in which they were done, but for writing the page.
        machine: what it ran on, by name.
        command: makes this page again.
        recipe: the TOML that trained the system; empty where nothing was trained.
    """

    title: str
    summary: str
    results: Sequence[Result]
    log: Sequence[Mapping[str, Any]]
    steps: Sequence[Step]
    machine: Mapping[str, str]
    command: str
    recipe: str = ""


def write_page(page: Page, path: Path) -> list[Step]:
    """Writes the page, whole or not at all.

    Returns:
        The steps as the page lists them, writing the page being the last.

    Raises:
        PictureError: a picture cannot be read.
        DataError: the file cannot be written.
    """
    began = time.perf_counter()
    above = [
        _opening(page),
        _headline(page.results),
        _queries(page.results),
        _tables(page.results),
        _curves(page),
    ]
    steps = [*page.steps, Step("write this page", time.perf_counter() - began)]
    whole = _document(page.title, join(*above, _effort(steps, page.machine), *_closing(page)))
    path = Path(path)
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(whole, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None
    return steps


def _document(title: str, main: Markup) -> str:
    folder = files("personsearch.demo")
    style = (folder / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    template = Template((folder / "page.html").read_text(encoding="utf-8"))
    return template.substitute(title=join(title), policy=policy, style=style, main=main)


def _opening(page: Page) -> Markup:
    return element("header", element("h1", page.title), element("p", page.summary, class_="lead"))


def _section(title: str, *content: Markup, id_: str | None = None) -> Markup:
    return element("section", element("h2", title), *content, id=id_)


def _by_data_set(results: Sequence[Result], parts: Sequence[Markup]) -> list[Markup]:
    """Each part under the name of its data set, where there are several."""
    if len(results) == 1:
        return list(parts)
    return [
        element("div", element("h3", result.dataset.name), part, class_="data-set")
        for result, part in zip(results, parts, strict=True)
    ]


def _headline(results: Sequence[Result]) -> Markup:
    note = element(
        "p",
        "The bars show the model on the people it detected. Beside them: colour alone, an HSV "
        "histogram on the ground-truth boxes, which a network has to beat; and the model itself on "
        "the ground-truth boxes, which is what a perfect detector would give it.",
        class_="note",
    )
    return _section("In short", note, *_by_data_set(results, [_tiles(r) for r in results]))


def _tiles(result: Result) -> Markup:
    compared = result.compared
    protocol = compared.rows[0].protocol
    model = compared.row(protocol).search
    floor = compared.row(protocol, "HSV histogram", "ground truth").search
    bound = compared.row(protocol, "model", "ground truth").search
    threshold, detection = next(iter(compared.detection.items()))
    first = min(model.top_k)
    return element(
        "div",
        _search_tile(f"Search mAP, {protocol}", model.mean_ap, floor.mean_ap, bound.mean_ap),
        _search_tile(
            f"Search top-{first}, {protocol}",
            model.top_k[first],
            floor.top_k[first],
            bound.top_k[first],
        ),
        _tile(
            f"Detection AP, IoU 0.5, score ≥ {threshold:g}",
            detection.average_precision,
            {},
            {
                "recall": percent(detection.recall),
                "people in the pictures": str(detection.num_ground_truth),
            },
        ),
        class_="tiles",
    )


def _search_tile(label: str, value: float, floor: float, bound: float) -> Markup:
    marks = {"HSV histogram": floor, "ground-truth boxes": bound}
    return _tile(label, value, marks, {})


def _tile(label: str, value: float, marks: Mapping[str, float], facts: Mapping[str, str]) -> Markup:
    """A figure with its bar, the marks on the bar, and facts beside it."""
    rows = [
        join(element("dt", _mark_key(number), name), element("dd", percent(mark)))
        for number, (name, mark) in enumerate(marks.items(), 1)
    ]
    rows += [join(element("dt", name), element("dd", text)) for name, text in facts.items()]
    return element(
        "div",
        element("h4", label),
        element("span", percent(value), element("small", "%"), class_="figure"),
        _bar(value, list(marks.values())),
        element("dl", *rows),
        class_="tile",
    )


def _bar(value: float, marks: Sequence[float]) -> Markup:
    """0..1 as a bar, marks as small triangles: the first points down to it, the second up."""
    width = 0.0 if np.isnan(value) else value * 100
    return element(
        "svg",
        element("rect", class_="track", x="0%", y=10, width="100%", height=8),
        element("rect", class_="fill", x="0%", y=10, width=f"{width:.1f}%", height=8),
        *(
            # A nested picture moves by percent, which a path cannot.
            element("svg", _triangle(number), x=f"{mark * 100:.1f}%", overflow="visible")
            for number, mark in enumerate(marks, 1)
        ),
        height=28,
        class_="bar",
        aria_hidden="true",
    )


def _triangle(number: int) -> Markup:
    path = "M-6 0H6L0 9Z" if number == 1 else "M-6 28H6L0 19Z"
    return element("path", d=path, class_=f"mark-{number}")


def _mark_key(number: int) -> Markup:
    top = 0 if number == 1 else 19
    return element(
        "svg", _triangle(number), viewBox=f"-6 {top} 12 9", class_="mark-key", aria_hidden="true"
    )


def _queries(results: Sequence[Result]) -> Markup:
    note = element(
        "p",
        "Nobody picked these queries: they stand at evenly spaced places in the ranking of all "
        "queries by average precision (AP), from the best to the worst. A hit is right when it "
        "is the right person and the box overlaps the annotated one enough.",
        class_="note",
    )
    parts = [_examples(result) for result in results]
    return _section("Queries and their hits", note, *_by_data_set(results, parts), id_="queries")


def _examples(result: Result) -> Markup:
    scenes = _Pictures(result.dataset.split("test"))
    protocol = result.compared.rows[0].protocol
    search = result.compared.row(protocol).search
    counted = search.num_queries - search.num_skipped
    note = element(
        "p",
        f"{len(result.examples)} of the {counted} queries of protocol “{protocol}”.",
        class_="note",
    )
    return join(note, *(_example(example, counted, scenes) for example in result.examples))


class _Pictures:
    """Scenes by name, and the pictures of those used last."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._scenes = {scene.name: scene for scene in scenes}
        self._read: dict[str, Picture] = {}

    def scene(self, name: str) -> Scene:
        return self._scenes[name]

    def picture(self, name: str) -> Picture:
        picture = self._read.pop(name, None)
        if picture is None:
            picture = read_scene(self._scenes[name])
        self._read[name] = picture
        if len(self._read) > _KEPT_PICTURES:
            del self._read[next(iter(self._read))]
        return picture


def _example(example: Example, counted: int, scenes: _Pictures) -> Markup:
    query = example.query
    place = {1: ", the best", counted: ", the worst"}.get(example.place, "")
    header = element(
        "header",
        element("h4", f"AP {percent(example.average_precision)} %"),
        element(
            "p",
            f"place {example.place} of {counted}{place}; found in {example.num_found} of "
            f"{example.num_targets} gallery pictures that show this person",
        ),
    )
    picture = scenes.picture(query.scene)
    camera = _camera(scenes.scene(query.scene))
    looked_for = element(
        "figure",
        element(
            "div",
            _image(
                whole_scene(picture, query.box),
                f"The query's picture {query.scene}{_comma(camera)}; a box marks the person",
            ),
            element("figcaption", f"query {example.number + 1}{_comma(camera)}"),
        ),
        _image(thumbnail(picture, query.box), "The person who is looked for"),
        class_="looked-for",
    )
    hits = [_hit(rank, hit, scenes) for rank, hit in enumerate(example.hits, start=1)]
    ranking = (
        element("ol", *hits, class_="hits")
        if hits
        else element("p", "Nobody was detected in this query's gallery.", class_="note")
    )
    return element("article", header, looked_for, ranking, class_="query")


def _hit(rank: int, hit: RankedHit, scenes: _Pictures) -> Markup:
    verdict = "right" if hit.correct else "wrong"
    shown = thumbnail(scenes.picture(hit.scene), hit.box, color=GREEN if hit.correct else RED)
    camera = _camera(scenes.scene(hit.scene))
    return element(
        "li",
        _image(shown, f"Hit {rank}, {verdict}, in {hit.scene}{_comma(camera)}"),
        element("span", f"{'✓' if hit.correct else '✗'} {verdict}", class_="verdict"),
        element("span", f"{rank}. {hit.similarity:.3f}"),
        element("span", camera, class_="quiet") if camera else None,
        class_=f"is-{verdict}",
    )


def _camera(scene: Scene) -> str:
    return "" if scene.camera is None else f"camera {scene.camera}"


def _comma(text: str) -> str:
    return f", {text}" if text else ""


def _image(picture: Picture, alt: str) -> Markup:
    height, width = picture.shape[:2]
    return element(
        "img", src=jpeg_address(picture), alt=alt, width=width, height=height, decoding="async"
    )


def _tables(results: Sequence[Result]) -> Markup:
    parts = [
        join(
            _table(search_table(result.compared, result.dataset.name)),
            _table(detection_table(result.compared, result.dataset.name)),
        )
        for result in results
    ]
    return _section("Figures", *_by_data_set(results, parts))


def _table(table: TextTable) -> Markup:
    head = element("tr", *(element("th", name, scope="col") for name in table.header))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:]))
        for row in table.rows
    ]
    drawn = element(
        "table", element("caption", table.title), element("thead", head), element("tbody", *body)
    )
    # A table wider than a phone scrolls by itself; the keyboard reaches it too.
    return element(
        "div", drawn, class_="scroll", tabindex="0", role="region", aria_label=table.title
    )


def _curves(page: Page) -> Markup:
    detection = {}
    for result in page.results:
        # The lowest threshold keeps the longest curve; the others are its beginnings.
        widest = result.compared.detection[min(result.compared.detection)]
        detection[result.dataset.name] = (widest.curve_recall, widest.curve_precision)
    charts = [
        line_chart(
            "Detection: precision over recall",
            detection,
            x_label="recall",
            y_label="precision",
            x_limit=1,
            y_limit=1,
        ),
        *_training_charts(page.log),
    ]
    return _section("Curves", element("div", *charts, class_="charts"))


def _training_charts(log: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    for stage in dict.fromkeys(report["stage"] for report in log):
        reports = [report for report in log if report["stage"] == stage]
        yield line_chart(
            f"Training losses, stage “{stage}”",
            _over_iterations(reports, "losses"),
            x_label="iteration",
            y_label="loss",
        )
    validated = [report for report in log if report.get("validation")]
    if validated:
        yield line_chart(
            "Validation while training",
            _over_iterations(validated, "validation"),
            x_label="iteration",
            y_label="figure",
            y_limit=1,
            markers=True,
        )


def _over_iterations(
    reports: Sequence[Mapping[str, Any]], key: str
) -> dict[str, tuple[list[float], list[float]]]:
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for report in reports:
        for name, value in report[key].items():
            x, y = lines.setdefault(name.replace("_", " "), ([], []))
            x.append(report["iteration"])
            y.append(value)
    return lines


def _effort(steps: Sequence[Step], machine: Mapping[str, str]) -> Markup:
    rows = [
        (step.name, f"{duration(step.seconds)}{', in an earlier run' if step.earlier else ''}")
        for step in steps
    ]
    rows.append(("together", duration(sum(step.seconds for step in steps))))
    return _section(
        "How long it took",
        _table(TextTable("Steps", ("step", "time"), rows)),
        _table(TextTable("Machine", ("what", "which"), list(machine.items()))),
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _closing(page: Page) -> list[Markup]:
    recipe = (
        element(
            "details",
            element("summary", "The recipe that trained it"),
            element("pre", page.recipe, tabindex="0"),
        )
        if page.recipe
        else None
    )
    return [
        element(
            "section",
            element("h2", "Make it again"),
            element("pre", page.command, tabindex="0"),
            recipe,
        ),
        _section(
            "What a match means",
            element(
                "p",
                "A match is a similarity, not an identity. The number says how much two cut-outs "
                "look alike to the network; people in the same clothes look alike. A ranking is "
                "something for a person to look through, never proof of who someone is.",
            ),
        ),
    ]
