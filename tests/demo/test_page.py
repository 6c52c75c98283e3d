"""The page escapes what it shows, its policy is strict, and it shows what it was given."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from personsearch.datasets.dataset import Dataset
from personsearch.demo.page import Page, Result, Step, duration, write_page
from personsearch.demo.showcase import choose_examples
from personsearch.errors import DataError
from personsearch.evaluation.comparison import Comparison, Row
from personsearch.evaluation.detection import evaluate_detection
from personsearch.evaluation.search import evaluate_search
from personsearch.types import Detections, Query, Scene, SearchProtocol

SPITE = "<script>alert('&\")</script>"


class Elements(HTMLParser):
    """Start tags with their attributes, and the text; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "link", "br", "source"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def close(self) -> None:
        super().close()
        assert self._open == []


def parse(text: str) -> Elements:
    parsed = Elements()
    parsed.feed(text)
    parsed.close()
    return parsed


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """Three pictures of one person each; the query's person is right first, the other's second."""
    box = np.array([4, 4, 20, 36], dtype=np.float32)
    scenes = []
    for number, name in enumerate(("a.png", f"{SPITE.replace('/', '')}.png", "c.png")):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((48, 64, 3), 60 * number, np.uint8))
        ids = np.array([0 if number < 2 else 1])
        scenes.append(Scene(name, path, (64, 48), box[None], ids, camera=number))
    names = [scene.name for scene in scenes]
    protocol = SearchProtocol(
        name=f"usual {SPITE}",
        queries=[Query(names[0], box, 0), Query(names[1], box, 0)],
        galleries=[names[1:], [names[0], names[2]]],
        targets=[{names[1]: box}, {names[0]: box}],
    )
    vectors = [[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]]
    found = {
        name: Detections([box], [0.9], np.array([vector], np.float32))
        for name, vector in zip(names, vectors, strict=True)
    }
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)  # right first; right second
    search = evaluate_search(protocol, found, queries, ranked=8)
    rows = [
        Row(protocol.name, "model", "detected", search),
        Row(protocol.name, "model", "ground truth", search),
        Row(protocol.name, "HSV histogram", "ground truth", search),
    ]
    detection = {0.5: evaluate_detection(scenes, found)}
    compared = Comparison(detection, rows, {}, found, {protocol.name: queries})
    dataset = Dataset("blocks", tmp_path, {"test": scenes}, {protocol.name: protocol})
    log = [
        {"stage": "scenes", "iteration": 10 * k, "losses": {"oim": 5.0 / k}, "validation": {}}
        for k in (1, 2)
    ]
    return Page(
        title="a page",
        summary=SPITE,
        results=[Result(dataset, compared, choose_examples(protocol, search))],
        log=log,
        steps=[Step("draw", 61.0), Step("train", 2.0, earlier=True)],
        machine={"device": SPITE},
        command=f"personsearch demo --recipe {SPITE}",
        recipe=f"key = '{SPITE}'",
    )


def test_what_it_is_given_is_text_and_never_markup(page: Page, tmp_path: Path) -> None:
    write_page(page, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text
    parsed = parse(text)
    assert parsed.text.count(SPITE) >= 5
    alts = [attributes["alt"] or "" for tag, attributes in parsed.tags if tag == "img"]
    assert len(alts) == 2 * 2 + 4 + 2  # two queries: scene and crop, two hits each; two charts
    assert all(alts)
    assert sum("right" in alt for alt in alts) == 2
    assert sum("wrong" in alt for alt in alts) == 2


def test_nothing_is_fetched_and_the_policy_allows_the_style_alone(
    page: Page, tmp_path: Path
) -> None:
    write_page(page, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    tags = parse(text).tags
    for _, attributes in tags:
        for key in ("src", "srcset", "href"):
            address = attributes.get(key) or "#"
            assert address.startswith(
                ("data:image/jpeg;base64,", "data:image/svg+xml;base64,", "#")
            )
        assert "style" not in attributes
        assert not any(key.startswith("on") for key in attributes)
    assert not re.search(r"url\(|@import", text)
    policy = next(a["content"] for t, a in tags if t == "meta" and "http-equiv" in a) or ""
    style = text.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_metrics_and_times_are_on_it(page: Page, tmp_path: Path) -> None:
    steps = write_page(page, tmp_path / "index.html")
    parsed = parse((tmp_path / "index.html").read_text(encoding="utf-8"))
    # AP is 1 for the first query and 1/2 for the second.
    for said in (
        "75.0",
        "AP 100.0 %",
        "AP 50.0 %",
        "✓ right",
        "✗ wrong",
        "rank 2 of 2, the worst",
    ):
        assert said in parsed.text
    assert "2 of the 2 queries" in parsed.text
    assert "1 min 01 s" in parsed.text
    assert "2.0 s, in an earlier run" in parsed.text
    assert [step.name for step in steps] == ["draw", "train", "write this page"]
    headings = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1


def test_a_folder_that_is_not_there_is_one_error(page: Page, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write_page(page, tmp_path / "missing" / "index.html")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
