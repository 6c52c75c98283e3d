"""`personsearch index` and `search` in a store, through their real entry point."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from blocks import GREEN, RED, Blocks, paint
from broadcast import over_http
from damaged import ODD_ENTRIES, cut_video, damage, damaged_avif, odd_photo
from PIL import Image
from typer.testing import CliRunner

from personsearch.cli.main import app, main
from personsearch.store import Filters, open_store

SHARED = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")


def run(folder: Path, *arguments: str) -> SimpleNamespace:
    """The program in this process, which has imported all that it needs."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setenv("PERSONSEARCH_STORE", str(folder / "store"))
        patch.setenv("COLUMNS", "160")
        patch.setattr(sys, "argv", ["personsearch", *arguments])
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


def run_apart(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "personsearch", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PERSONSEARCH_STORE": str(folder / "store"), "COLUMNS": "160"},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real networks, four real frames in a folder of a camera, and a store made of them."""
    folder = tmp_path_factory.mktemp("footage")
    text = (Path(__file__).parents[2] / "examples" / "omz_osnet.toml").read_text(encoding="utf-8")
    for name in ("person-detection-0202.xml", "osnet_x0_25_msmt17.onnx"):
        text = text.replace(f'"{name}"', json.dumps(str(SHARED / "models" / name)))
    (folder / "pair.toml").write_text(text, encoding="utf-8")
    (folder / "photos" / "gate").mkdir(parents=True)
    frames = sorted((SHARED / "prw-frames").glob("*.jpg"))
    names = ("c1s1_001051", "c1s1_009376", "c1s1_009476", "c3s1_001626")
    for frame in frames:
        if frame.stem in names:
            (folder / "photos" / "gate" / f"{frame.stem}.jpg").write_bytes(frame.read_bytes())
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    damaged = ["broken.jpg", *damage(folder / "photos" / "damaged")]
    made = run_apart(folder, "index", "photos", "--model", "pair.toml", "--json")
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["pictures"] == 4
    assert report["in_store"]["people"] == report["people"] > 8
    assert sorted(Path(one["path"]).name for one in report["unreadable"]) == sorted(damaged)
    return folder


@real
def test_it_goes_on_where_it_was_with_the_model_of_the_store(place: Path) -> None:
    again = run(place, "index", "photos")
    assert again.returncode == 0, again.stderr
    assert "0 people in 0 pictures of 0 files" in again.stdout
    assert "10 files were there already" in again.stdout


@real
def test_a_person_is_found_again(place: Path) -> None:
    query = "photos/gate/c1s1_001051.jpg"
    result = run(place, "search", query, "--top", "3", "--out", "hits.png", "--json")
    assert result.returncode == 0, result.stderr
    hits = json.loads(result.stdout)["hits"]
    # The woman in white; not her in the query's own picture.
    names = [Path(hit["path"]).stem for hit in hits]
    assert set(names) == {"c1s1_009376", "c1s1_009476", "c3s1_001626"}
    assert all(hit["camera"] == "gate" and hit["similarity"] > 0.7 for hit in hits)
    with Image.open(place / "hits.png") as picture:
        assert np.asarray(picture).std() > 20
    like = run(place, "search", "--person", str(hits[0]["person"]), "--top", "1", "--json")
    assert json.loads(like.stdout)["hits"][0]["person"] != hits[0]["person"]
    table = run(place, "search", query, "--camera", "gate", "--min-height", "100")
    assert table.returncode == 0, table.stderr
    assert "c1s1_009376" in table.stdout
    none = run(place, "search", query, "--camera", "'; DROP TABLE people; --", "--json")
    assert json.loads(none.stdout)["hits"] == []


@real
def test_another_model_and_a_missing_person(place: Path) -> None:
    (place / "other.toml").write_text(
        (place / "pair.toml").read_text(encoding="utf-8").replace("= 0.3", "= 0.5"),
        encoding="utf-8",
    )
    query = "photos/gate/c1s1_001051.jpg"
    for arguments in (("search", query), ("index", "photos")):
        refused = run(place, *arguments, "--model", "other.toml")
        assert refused.returncode == 1
        assert "their embeddings cannot be compared" in refused.stderr
        assert "Traceback" not in refused.stderr
    missing = run(place, "search", "--person", "9999")
    assert missing.returncode == 1
    assert "has no person 9999" in missing.stderr


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that finds plain blocks, in place of any other."""
    monkeypatch.setattr("personsearch.loading.load", lambda *_: Blocks())


def index(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """The report of the command, run in this process."""
    store = str(tmp_path / "store")
    result = CliRunner().invoke(app, ["index", *arguments, "--store", store, "--json"])
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.mark.usefixtures("blocks")
def test_damaged_files_are_counted_and_end_no_run(tmp_path: Path) -> None:
    names = damage(tmp_path / "gate")
    (tmp_path / "gate" / "odd.jpg").write_bytes(odd_photo("JPEG", ODD_ENTRIES["GPS of nothing"]))
    paint(tmp_path / "gate" / "whole.png", RED, GREEN)
    folder = str(tmp_path / "gate")
    report = index(tmp_path, folder)
    assert (report["files"], report["pictures"], report["interrupted"]) == (2, 2, False)
    assert sorted(Path(one["path"]).name for one in report["unreadable"]) == names
    reasons = {Path(one["path"]).name: one["reason"] for one in report["unreadable"]}
    assert reasons["cut.mp4"] == "is not a video that can be read (End of file)"
    assert reasons["codec.mp4"] == "is in an unknown codec, expected a video"
    # The next run knows them, and tries one again that has changed.
    paint(tmp_path / "gate" / "whole.png", GREEN)
    (tmp_path / "gate" / "pixels.avif").write_bytes(damaged_avif() + b"x")
    report = index(tmp_path, folder)
    assert (report["files"], report["skipped"]) == (1, len(names))
    assert [Path(one["path"]).name for one in report["unreadable"]] == ["pixels.avif"]
    told = CliRunner().invoke(app, ["index", folder, "--store", str(tmp_path / "other")])
    assert told.exit_code == 0
    assert "Aborted" not in told.output
    assert "cut.ts: is not a video that can be read (End of file)" in told.output


@pytest.mark.usefixtures("blocks")
def test_a_folder_is_watched_and_pruned(tmp_path: Path) -> None:
    paint(tmp_path / "gate" / "20240203_040506.png", RED)
    paint(tmp_path / "gate" / "b.png", RED, GREEN)
    (tmp_path / "gate" / "c.jpg").write_text("no picture")
    cut_video(tmp_path / "gate" / "d.mp4", "libx264")
    folder = str(tmp_path / "gate")
    naming = ("--name-pattern", "{camera}/{date}_{time}", "--zone", "UTC")
    # The first look only sees that files are there, the second that they have not grown.
    report = index(tmp_path, folder, "--watch", "--for", "3", *naming)
    assert (report["pictures"], report["people"], report["interrupted"]) == (2, 3, False)
    assert [Path(one["path"]).name for one in report["unreadable"]] == ["c.jpg", "d.mp4"]
    with open_store(tmp_path / "store") as store:
        (first, *_) = store.people(store.embeddings(Filters(since=1.0))[0].tolist())
        assert (first.camera, first.time) == ("gate", 1706933106.0)
    (tmp_path / "gate" / "b.png").unlink()
    report = index(tmp_path, folder)
    assert (report["skipped"], report["in_store"]["people"]) == (3, 3)
    report = index(tmp_path, folder, "--prune")
    assert (report["pruned"], report["in_store"]["people"]) == (2, 1)


@pytest.mark.usefixtures("blocks")
def test_a_camera_is_looked_at(tmp_path: Path) -> None:
    with over_http(100) as broadcast:
        address = broadcast.address.replace("://", "://anna:s3cret-word@")
        report = index(tmp_path, address, "--camera", "gate", "--every", "0.1", "--for", "6")
    (stream,) = report["streams"]
    assert (stream["place"], stream["camera"]) == (broadcast.address, "gate")
    assert report["pictures"] == stream["pictures"]
    assert "s3cret" not in json.dumps(report)


def test_wrong_usage(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (20, 30)).save(picture)
    cases = {
        ("search",): "no person is given",
        ("search", "a.png", "--in", ".", "--camera", "x", "--model", "m"): "exclude each other",
        ("search", "a.png", "--in", "."): "--in needs --model",
        ("search", "a.png", "--since", "yesterday"): "is not a time",
        ("index",): "Missing argument",
        ("index", "rtsp://a:s3cret@b/1", "--watch"): "--watch and --prune are for folders",
        ("index", ".", "--for", "3"): "--for goes with live cameras or --watch",
        ("index", ".", "--zone", "Mars/Olympus"): "is not a time zone",
        ("index", ".", "--name-pattern", "{who}"): "{who} is not a placeholder",
        ("index", "rtsp://"): "the address of a stream",
    }
    for arguments, expected in cases.items():
        result = run(tmp_path, *arguments)
        assert result.returncode == 2, arguments
        assert expected in " ".join(result.stderr.replace("│", " ").split()), arguments
        assert "s3cret" not in result.stderr
    for arguments in (("search", "a.png"), ("erase", "--person", "1", "--yes")):
        result = run(tmp_path, *arguments)
        assert result.returncode == 1
        assert "there is no store here" in result.stderr
    gone = run(tmp_path, "index", "gone")
    assert gone.returncode == 1
    assert "no such file or folder" in gone.stderr
    assert not (tmp_path / "store").exists()
