"""`personsearch demo` from drawing to the page; a process of its own where it is interrupted."""

import json
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from shell import personsearch

from personsearch.cli.main import main

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"

RECIPE = """
system = "oim"
backbone = "small"
backbone_width = 16
embedding_dim = 16
queue_size = 4
roi_size = [8, 4]
min_size = 96
max_size = 128
anchor_sizes = [25]
aspect_ratios = [2.5]
rpn_post_nms_top_n_train = 60
rpn_post_nms_top_n_test = 40
max_detections = 20
crop_iterations = 4
crop_lr = 0.02
crops_per_canvas = 4
canvases_per_iteration = 1
iterations = ITERATIONS
images_per_iteration = 1
lr = 0.01
validation_fraction = 0.3
loader_workers = 0
cache_pictures = true
log_every = 1
evaluate_every = 100000
checkpoint_every = 100000
eval_score_threshold = 0.05
"""


class Page(HTMLParser):
    """What the tests look at: addresses, pictures without words for them, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.alts: list[str | None] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.addresses += [named[key] or "" for key in ("src", "srcset", "href") if key in named]
        if tag == "img":
            self.alts.append(named.get("alt"))

    def handle_data(self, data: str) -> None:
        self.text += data


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process, which spares the imports; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["personsearch", "demo", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    path = folder / "tiny.toml"
    path.write_text(RECIPE.replace("ITERATIONS", "20"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def report(folder: Path, recipe: Path) -> dict[str, Any]:
    out = folder / "out"
    done = personsearch("demo", "--size", "tiny", "--recipe", recipe, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def check(page: Page, report: dict[str, Any]) -> None:
    assert page.addresses
    assert all(a.startswith(("data:image/", "#")) for a in page.addresses)
    assert page.alts
    assert all(page.alts)
    for result in report["results"]:
        assert len(result["search"]) >= 3
        for row in result["search"]:
            assert f"{100 * row['mean_ap']:.1f}" in page.text
            assert row["protocol"] in page.text
        for row in result["detection"]:
            assert f"{100 * row['average_precision']:.1f}" in page.text
    for step in report["steps"]:
        assert step["name"] in page.text


def test_the_page_shows_the_figures_of_the_report(folder: Path, report: dict[str, Any]) -> None:
    page = Page(folder / "out" / "index.html")
    check(page, report)
    assert {row["protocol"] for row in report["results"][0]["search"]} == {"cross-camera", "all"}
    assert [step["earlier"] for step in report["steps"]] == [False] * len(report["steps"])
    assert all(step["seconds"] > 0 for step in report["steps"])
    assert "a similarity, not an identity" in page.text
    assert "backbone_width = 16" in page.text


def test_a_second_run_uses_what_is_there(
    folder: Path,
    recipe: Path,
    report: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = folder / "out"
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    assert run_here(monkeypatch, "--size", "tiny", "--recipe", str(recipe), "--out", str(out)) == 0
    printed = capsys.readouterr().out
    changed = {
        p.name for p in out.rglob("*") if p.is_file() and before.get(p) != p.stat().st_mtime_ns
    }
    assert changed == {"index.html"}
    assert printed.count("in an earlier run") == 3
    assert "index.html" in printed


def test_an_interrupted_training_goes_on(
    folder: Path, recipe: Path, report: dict[str, Any]
) -> None:
    """The data is there; the recipe is new, so that training starts, and is stopped."""
    long = folder / "long.toml"
    long.write_text(RECIPE.replace("ITERATIONS", "30"), encoding="utf-8")
    arguments = ("--size", "tiny", "--recipe", str(long), "--out", str(folder / "out"))
    log = folder / "out" / "run" / "log.jsonl"
    log.unlink()  # what is there next, the new run wrote
    running = subprocess.Popen(
        [sys.executable, "-m", "personsearch", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and running.poll() is None:
        if log.is_file() and '"scenes"' in log.read_text():
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=200)
    assert running.returncode == 130, errors
    assert "run the same command again" in errors
    stopped_at = len(log.read_text().splitlines())
    assert 4 < stopped_at < 34
    done = personsearch("demo", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    # Every iteration is in the log once: nothing was trained twice.
    places = [
        (line["stage"], line["iteration"]) for line in map(json.loads, log.read_text().splitlines())
    ]
    assert places == [("crops", k) for k in range(1, 5)] + [("scenes", k) for k in range(1, 31)]
    assert json.loads(done.stdout)["steps"][0]["earlier"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--size", "huge"), 2, "huge"),
        (("--out", "FILE"), 2, "file"),
        (("--recipe", "missing.toml"), 1, "no such file"),
        (("--real", "EMPTY"), 1, "prw-frames"),
        (("--real", "missing"), 2, "missing"),
        (("--out", "FOREIGN", "--size", "tiny", "--recipe", "RECIPE"), 1, "not made by the demo"),
    ],
)
def test_wrong_usage_is_one_error(
    arguments: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "index.html").write_text("mine")
    names = {name.upper(): str(tmp_path / name) for name in ("file", "empty", "foreign")}
    names["RECIPE"] = str(recipe)
    given = [names.get(a, a) for a in arguments]
    out = [] if "--out" in given else ["--out", str(tmp_path / "out")]
    assert run_here(monkeypatch, *given, *out) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "foreign" / "index.html").read_text() == "mine"


@pytest.mark.skipif(not REAL.is_dir(), reason="no real samples beside the repository")
def test_real_frames(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the networks need OpenVINO")
    done = personsearch("demo", "--real", REAL, "--out", tmp_path / "real", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [result["data"] for result in report["results"]] == ["PRW frames", "PETS09 S2L1"]
    check(Page(tmp_path / "real" / "index.html"), report)
    assert report["results"][0]["search"][0]["mean_ap"] > 0.6
