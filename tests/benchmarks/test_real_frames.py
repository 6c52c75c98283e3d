"""The real-frames benchmark: on a folder with known answers, and on the real samples."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from personsearch.demo.real_samples import pets09, sample_networks
from personsearch.errors import DataError
from personsearch.evaluation.comparison import compare
from personsearch.systems.crop_embedders import ExtractorEmbedder
from personsearch.systems.two_step import TwoStep

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / ".." / "shared" / "data"


def _load(name: str) -> ModuleType:
    """Import a benchmark script."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


real_frames = _load("real_frames")

# Two people of plain colour, 20 and 230 pixels tall, in three frames.
PEOPLE = {3: ((10, 5, 20, 20), (230, 20, 20)), 4: ((60, 5, 90, 230), (20, 20, 230))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prw-frames").mkdir()
    (tmp_path / "prw-annotations").mkdir()
    images, rows = [], []
    for number in range(3):
        canvas = np.zeros((240, 160, 3), dtype=np.uint8)
        for id_, ((x, y, w, h), color) in PEOPLE.items():
            canvas[y : y + h, x : x + w] = color
            rows.append({"image_id": number, "bbox": [x, y, w, h], "person_id": id_})
        name = f"c1s1_00000{number}.png"
        cv2.imwrite(str(tmp_path / "prw-frames" / f"{name[:-4]}.jpg"), canvas[..., ::-1])
        images.append({"id": number, "file_name": f"{name[:-4]}.jpg"})
    table = {"images": images, "annotations": rows}
    (tmp_path / "prw-annotations" / "all.json").write_text(json.dumps(table))
    return tmp_path


def detect(pictures: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The tall person at 0.9, the short one at 0.4, and nobody's corner at 0.35."""
    boxes = np.array([[60, 5, 150, 235], [10, 5, 30, 25], [0, 200, 20, 230]], dtype=np.float32)
    return [(boxes, np.array([0.9, 0.4, 0.35], dtype=np.float32)) for _ in pictures]


def mean_color(crop: np.ndarray) -> np.ndarray:
    mean: np.ndarray = crop.reshape(-1, 3).mean(axis=0)
    return mean


def test_known_people_give_known_figures(folder: Path) -> None:
    said: list[str] = []
    model = TwoStep(detect, ExtractorEmbedder(mean_color))
    figures = real_frames.measure(folder, model, progress=said.append)
    assert said == ["PRW frames: 3 pictures"]
    high, low = figures.detection
    assert (high.score_threshold, high.found, high.people, high.recall) == (0.5, 3, 6, 0.5)
    assert (high.tall_found, high.tall_people) == (3, 3)
    assert high.average_precision == pytest.approx(0.5)
    assert (low.score_threshold, low.found, low.recall) == (0.3, 6, 1.0)
    assert low.average_precision == pytest.approx(1.0)
    detected, truth, floor = figures.search
    assert (detected.embedder, truth.embedder) == ("model", "model")
    # At 0.5 the short person is never found: half of the queries are answered, and rightly.
    assert (detected.boxes, detected.queries) == ("detected", 6)
    assert detected.mean_ap == pytest.approx(0.5)
    assert detected.top_1 == pytest.approx(0.5)
    for row in (truth, floor):
        assert (row.boxes, row.mean_ap, row.top_1) == ("ground truth", 1.0, 1.0)
    assert floor.embedder == "HSV histogram"
    assert figures.pictures_per_second["PRW frames"] > 0
    assert json.loads(json.dumps(figures.as_json()))["search"][0]["queries"] == 6


def test_a_folder_without_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found neither"):
        real_frames.measure(tmp_path, TwoStep(detect, ExtractorEmbedder(mean_color)))


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real samples in ../shared/data")
def test_the_real_networks_reach_their_known_figures(tmp_path: Path) -> None:
    """Fed wrongly (colour order, mean, crop), these networks lose far more than the margins."""
    for name in ("prw-frames", "prw-annotations", "models"):
        (tmp_path / name).symlink_to((DATA / name).resolve())
    figures = real_frames.measure(tmp_path)
    high, low = figures.detection
    assert (low.people, low.tall_people, low.tall_found) == (48, 26, 26)
    assert (high.found, low.found) == (pytest.approx(40, abs=1), pytest.approx(42, abs=1))
    detected, truth, _ = figures.search
    assert truth.queries == 37
    assert truth.mean_ap == pytest.approx(0.857, abs=0.015)
    assert detected.mean_ap == pytest.approx(0.798, abs=0.025)
    # Ten frames of the video: the scaled boxes lie on its people.
    pets = pets09(DATA, every=50)
    result = compare(
        sample_networks(DATA), pets, list(pets.protocols), score_thresholds=(0.3,), bounds=False
    )
    assert result.detection[0.3].num_ground_truth == 51
    assert result.detection[0.3].recall > 0.75
    assert result.rows[0].search.mean_ap > 0.55
