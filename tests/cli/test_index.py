"""`personsearch index`, `search` in a store and `erase`, through their real entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from personsearch.cli.store_folder import parse_time, show_time, store_folder

SHARED = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
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
    made = run(folder, "index", "photos", "--model", "pair.toml", "--json")
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["pictures"] == 4
    assert report["in_store"]["people"] == report["people"] > 8
    assert [Path(one["path"]).name for one in report["unreadable"]] == ["broken.jpg"]
    return folder


@real
def test_it_goes_on_where_it_was_with_the_model_of_the_store(place: Path) -> None:
    again = run(place, "index", "photos")
    assert again.returncode == 0, again.stderr
    assert "0 people in 0 pictures of 0 files" in again.stdout
    assert "5 files were there already" in again.stdout


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


@real
def test_erased_people_are_gone(place: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(place / "store", tmp_path / "store")
    source = str(place / "photos")
    picture = "gate/c1s1_009376.jpg"
    asked = run(tmp_path, "erase", "--source", source, "--picture", picture)
    assert asked.returncode == 1  # nobody answered
    erased = run(tmp_path, "erase", "--source", source, "--picture", picture, "--yes")
    assert erased.returncode == 0, erased.stderr
    assert "people erased" in erased.stdout
    hits = json.loads(run(tmp_path, "search", "--person", "1", "--json").stdout)["hits"]
    assert not any(hit["path"].endswith(picture) for hit in hits)
    one = run(tmp_path, "erase", "--person", "1", "--yes")
    assert one.stdout.strip() == "1 people erased"
    assert run(tmp_path, "search", "--person", "1").returncode == 1


def test_wrong_usage(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (20, 30)).save(picture)
    cases = {
        ("search",): "say who",
        ("search", "a.png", "--in", ".", "--camera", "x", "--model", "m"): "exclude each other",
        ("search", "a.png", "--in", "."): "--in needs --model",
        ("search", "a.png", "--since", "yesterday"): "is not a time",
        ("erase", "--yes"): "say who",
        ("erase", "--picture", "a.jpg", "--yes"): "say who",
        ("erase", "--source", "x", "--person", "1", "--yes"): "erase in two steps",
        ("index",): "Missing argument",
    }
    for arguments, expected in cases.items():
        result = run(tmp_path, *arguments)
        assert result.returncode == 2, arguments
        assert expected in " ".join(result.stderr.replace("│", " ").split()), arguments
    for arguments in (("search", "a.png"), ("erase", "--person", "1", "--yes")):
        result = run(tmp_path, *arguments)
        assert result.returncode == 1
        assert "there is no store here" in result.stderr
    gone = run(tmp_path, "index", "gone")
    assert gone.returncode == 1
    assert "no such file or folder" in gone.stderr
    assert not (tmp_path / "store").exists()


def test_times_and_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert parse_time("1970-01-01T00:00:10+00:00") == 10.0
    assert parse_time(None) is None
    assert show_time(None) == ""
    assert parse_time(show_time(1_700_000_000.0)) == 1_700_000_000.0
    monkeypatch.setenv("PERSONSEARCH_STORE", str(tmp_path))
    assert store_folder(None) == tmp_path
    assert store_folder(Path("x")) == Path("x")
    monkeypatch.delenv("PERSONSEARCH_STORE")
    assert store_folder(None).parts[-2:] == ("personsearch", "store")
