"""`personsearch export` through its real entry point, and the commands that take its file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from exportable import checkpoint, noise
from PIL import Image
from shell import personsearch

from personsearch.evaluation.comparison import compare
from personsearch.loading import load
from personsearch.synthetic.benchmark import make_benchmark


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, two photos, and the run's exported file."""
    folder = tmp_path_factory.mktemp("export")
    checkpoint(folder / "run" / "best")
    (folder / "photos").mkdir()
    for name, size in (("a.png", (96, 128)), ("b.png", (120, 90))):
        pixels = (noise(1, *size)[0] * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "photos" / name)
    photos = [word for name in "ab" for word in ("--check", f"photos/{name}.png")]
    command = [sys.executable, "-m", "personsearch", "export", "run/best", "--to", "model.onnx"]
    done = subprocess.run(
        [*command, *photos], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "openvino" in done.stdout
    assert "largest differences from torch on 2 pictures with " in done.stdout
    assert "model.onnx written" in done.stdout
    return folder


def test_the_file_and_its_card_are_there(place: Path) -> None:
    assert "## Checked against torch" in (place / "model.md").read_text()
    again = personsearch("export", place / "run", "--to", place / "model.onnx")
    assert again.returncode == 1
    assert again.stderr == (
        f"error: {place}/model.onnx: exists already; choose another name or remove it\n"
    )


def test_differences_as_json(place: Path, tmp_path: Path) -> None:
    arguments = ("--to", tmp_path / "m.onnx", "--check", place / "photos" / "a.png", "--json")
    done = personsearch("export", place / "run", *arguments)
    facts = json.loads(done.stdout)
    assert facts["card"] == str(tmp_path / "m.md")
    assert {one["runtime"] for one in facts["differences"]} == {"openvino", "onnxruntime"}
    assert all(one["embeddings"] < 1e-4 for one in facts["differences"])


def test_index_and_search_take_the_file(place: Path, tmp_path: Path) -> None:
    model, store = place / "model.onnx", tmp_path / "store"
    done = personsearch("index", place / "photos", "--model", model, "--store", store)
    assert done.returncode == 0, done.stderr
    query = (place / "photos" / "a.png", "--box", "20,20,60,80", "--json")
    for where in (("--store", store), ("--in", place / "photos", "--model", model)):
        done = personsearch("search", *query, *where)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
    # The checkpoint is another model.
    done = personsearch("search", *query, "--store", store, "--model", place / "run" / "best")
    assert done.returncode == 1
    assert "model" in done.stderr


def test_evaluate_gives_what_the_checkpoint_gives(place: Path, tmp_path: Path) -> None:
    dataset = make_benchmark(tmp_path / "synth", size="tiny", workers=1)
    arguments = ("--data", tmp_path / "synth", "--no-bounds", "--json")
    done = personsearch("evaluate", place / "model.onnx", *arguments)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    # In float32, as the file is.
    model, name = load(place / "run"), measured["search"][0]["protocol"]
    expected = compare(model, dataset, [name], bounds=False, precision="float32")
    assert measured["detection"][0]["recall"] == expected.detection[0.5].recall > 0
    assert measured["search"][0]["mean_ap"] == pytest.approx(expected.row(name).search.mean_ap)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--to", "model.pt"], 2, "expected a name ending in .onnx"),
        (["run"], 2, "Missing option '--to'"),
        (["gone", "--to", "m.onnx"], 1, "error: gone: no such checkpoint folder\n"),
        (["pair.toml", "--to", "m.onnx"], 1, "error: pair.toml: only the checkpoint of an end-to-"),
        (
            ["run", "--to", "m.onnx", "--opset", "99"],
            1,
            "error: opset 99 cannot be written, expect",
        ),
    ],
)
def test_errors_are_one_line(
    place: Path, arguments: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    done = personsearch("export", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "m.onnx").exists()


def test_a_network_that_is_none_of_ours_is_one_line(place: Path, tmp_path: Path) -> None:
    content = (place / "model.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    for command in (
        ("index", place / "photos", "--store", tmp_path / "store"),
        ("search", place / "photos" / "a.png", "--in", place / "photos"),
    ):
        done = personsearch(*command, "--model", tmp_path / "cut.onnx")
        assert done.returncode == 1
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith(f"error: {tmp_path}/cut.onnx: was not written by")
