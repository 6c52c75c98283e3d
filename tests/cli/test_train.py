"""`personsearch train`: what it prints, writes and exits with."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shell import personsearch

from personsearch.training.checkpoint import find_checkpoint
from personsearch.training.loop import read_log
from personsearch.training.recipe import make_recipe

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "personsearch", "train", *map(str, arguments)]


train = partial(personsearch, "train")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the scenes format: six pictures, each with two of four people."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 3))
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for number in range(6):
        picture = rng.integers(110, 150, (64, 96, 3), dtype=np.uint8)
        for place in (0, 1):
            identity, x = (number + place) % 4, 8 + 46 * place
            picture[12:52, x : x + 16] = colours[identity]
            person = {"id": len(people), "image_id": number, "category_id": 1, "iscrowd": 0}
            box = {"bbox": [x, 12, 16, 40], "area": 640, "person_id": identity}
            people.append(person | box)
        Image.fromarray(picture).save(folder / f"{number}.png")
        image = {"id": number, "file_name": f"{number}.png", "width": 96, "height": 64}
        images.append(image | {"split": "train"})
    content = {"info": {"name": "drawn"}, "images": images, "annotations": people}
    content["categories"] = [{"id": 1, "name": "person"}]
    (folder / "scenes.json").write_text(json.dumps(content))
    return folder


def recipe_file(folder: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {"system": "oim", "iterations": 2, "lr": 0.01, "backbone": "small"}
    values |= {"backbone_width": 8, "embedding_dim": 8, "queue_size": 4, "roi_size": [4, 2]}
    values |= {"min_size": 64, "max_size": 96, "anchor_sizes": [25], "rpn_post_nms_top_n_train": 20}
    values |= {"images_per_iteration": 2, "loader_workers": 1, "log_every": 1}
    values |= {"validation_fraction": 0.0, "precision": "float32"}
    path = folder / "recipe.toml"
    path.write_text(make_recipe(values | changes).to_toml())
    return path


def test_reports_are_json_lines_and_the_run_is_written(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = (recipe_file(tmp_path), "--data", data, "--out", run, "--device", "cpu")
    ran = train(*arguments, "--json", "--seed", 5)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(line["stage"], line["iteration"]) for line in lines] == [("scenes", 1), ("scenes", 2)]
    assert lines[1]["losses"] == read_log(run / "log.jsonl")[1]["losses"]
    assert "best checkpoint" in ran.stderr
    assert "\nseed = 5 " in (find_checkpoint(run) / "recipe.toml").read_text()

    again = train(*arguments)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.splitlines()[-1].startswith(f"error: {run}: already holds a run")
    assert "Traceback" not in again.stderr


def test_a_broken_picture_is_one_line(data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    broken.mkdir()
    for file in data.iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[:300] if file.suffix == ".png" else content)
    ran = train(recipe_file(tmp_path), "--data", broken, "--out", tmp_path / "run", "--json")
    assert ran.returncode == 1
    assert len([line for line in ran.stderr.splitlines() if line.strip()]) == 1
    assert ran.stderr.startswith("error: ")
    assert ".png" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "tpu"], "device is 'tpu'"),
        (["--device", "cuda:99"], "'cuda:99' was asked for"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    data: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    ran = train(recipe_file(tmp_path), "--data", data, "--out", tmp_path / "run", *arguments)
    assert ran.returncode == 1
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_recipe_without_data_says_how_to_give_it(tmp_path: Path) -> None:
    ran = train(recipe_file(tmp_path))
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ")
    assert "--data FOLDER" in ran.stderr


def test_a_seed_below_zero_is_wrong_usage(tmp_path: Path) -> None:
    assert train(recipe_file(tmp_path), "--seed", -1).returncode == 2


def test_ctrl_c_writes_a_checkpoint_to_go_on_from(data: Path, tmp_path: Path) -> None:
    recipe, run = (
        recipe_file(tmp_path, iterations=100000, checkpoint_every=100000),
        tmp_path / "run",
    )
    process = subprocess.Popen(
        command(recipe, "--data", data, "--out", run, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    # As a terminal does: the loader process gets it, too.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip() == f"interrupted: a checkpoint is in {run / 'last'}; resume with --resume"
    where = json.loads((run / "last" / "training.json").read_text())
    assert where["iteration"] == len(read_log(run / "log.jsonl"))
