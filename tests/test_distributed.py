"""Several processes train as one on the joined batch, and end together with a reason."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from personsearch.datasets.dataset import Dataset
from personsearch.distributed import all_counts, all_rows, barrier, gather, join, rank, world_size
from personsearch.errors import DataError, TrainingError
from personsearch.losses.norm_aware import RowNorm
from personsearch.training.catalogue import SYSTEMS
from personsearch.training.checkpoint import load_checkpoint, load_progress
from personsearch.training.devices import joined_processes
from personsearch.training.loop import Trainer, read_log
from personsearch.training.recipe import Recipe, make_recipe
from personsearch.types import Scene

TRAINED = [name for name in SYSTEMS if name != "xiao2016-0.1"]  # which is not trained any more

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(folder: Path, count: int = 12) -> Dataset:
    """Pictures of two sizes, none to three people in each, some without an identity."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    scenes = []
    for number in range(count):
        width, height = (96, 64) if number % 3 else (80, 60)
        pixels = rng.integers(90, 160, (height, width, 3), dtype=np.uint8)
        people = (1 + number % 3) * (number % 2)
        boxes = np.array([[2 + 26 * p, 8 + p, 20 + 26 * p, 52 + p] for p in range(people)])
        boxes = boxes.reshape(-1, 4).astype(int)
        ids = np.array([(number + 2 * p) % 5 for p in range(people)], np.int64)
        ids[ids == 4] = -1
        for (x1, y1, x2, y2), identity in zip(boxes, ids, strict=True):
            pixels[y1:y2, x1:x2] = 40 * identity + rng.integers(0, 60, 3)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        scenes.append(
            Scene(f"s{number}", folder / f"{number}.png", (width, height), boxes.astype("f4"), ids)
        )
    return Dataset("drawn", folder, {"train": scenes}, {})


def tiny_recipe(system: str, **changes: Any) -> Recipe:
    values: dict[str, Any] = {"system": system, "iterations": 2, "lr": 0.01, "backbone": "small"}
    values |= {"backbone_width": 4, "images_per_iteration": 6}
    values |= {"min_size": 48, "max_size": 72, "anchor_sizes": [16, 25, 40], "aspect_ratios": [2.5]}
    values |= {"loader_workers": 0, "precision": "float32", "clip_norm": 10.0, "log_every": 1}
    values |= {
        "validation_fraction": 0.0,
        "color_jitter": 0.2,
        "erase": 0.2,
        "cache_pictures": True,
    }
    if system in ("sequential", "rdlr"):
        values |= {"pyramid_channels": 8, "head_depth": 1, "crop_size": [32, 16]}
        values |= {"detection_iterations": 2, "detection_lr": 0.01}
    else:
        values |= {"crop_iterations": 2, "crop_lr": 0.01, "canvases_per_iteration": 6}
        values |= {"crops_per_canvas": 4, "crop_detection": True}
        values |= {"rpn_post_nms_top_n_train": 40, "rpn_batch_size_per_image": 32}
        values |= {"embedding_dim": 16, "roi_size": [8, 4], "rois_per_image": 16}
    match system:
        case "inet" | "dc-inet":
            values |= {"sampler": "pairs", "dictionary_size": 30, "priority_classes": 3}
            values |= {"reid_min_iou": 0.5}
        case "oim" | "nae" | "seqnet" | "trident":
            values |= {"queue_size": 7}
        case "xiao2016":
            values |= {"dropout": 0.5, "rss_sampled": 3, "classifier_iterations": 2}
            values |= {"classifier_batch": 12, "classifier_size": [48, 24]}
            values |= {"classifier_background": [16, 8]}
        case "sequential":
            values |= {"region_size": [32, 16], "batch_ids": 4, "batch_shots": 3, "stretch": False}
            values |= {"semi_hard_iterations": 1, "feature_views": 2}
        case "rdlr":
            values |= {"roi_size": [4, 2], "rois_per_image": 16, "detection_hidden": 16}
            values |= {"rpn_post_nms_top_n_train": 40, "rpn_post_nms_top_n_test": 20}
            values |= {"score_threshold": 0.0, "match_iou": 0.1, "reid_iterations": 2}
            # Adam would make a step of a gradient that is zero but for rounding.
            values |= {
                "reid_optimizer": "sgd",
                "reid_lr": 0.01,
                "reid_padding": 1,
                "reid_batch_shots": 3,
            }
            values |= {"reid_batch_ids": 4, "rpn_batch_size_per_image": 32}
    return make_recipe(values | changes)


def hold_statistics(patch: pytest.MonkeyPatch) -> None:
    """Keep the layers in evaluation mode that normalise by the samples of their own process.

    The neck of a re-ID network is none of them: it reads the samples of all processes.
    """
    patch.setattr("personsearch.training.curves.plot_training", lambda *_: None)  # takes longest
    for layer in (torch.nn.BatchNorm2d, RowNorm):
        patch.setattr(layer, "train", lambda self, mode=True: torch.nn.Module.train(self, False))


def train(system: str, dataset: Dataset, run: Path, **changes: Any) -> None:
    Trainer(tiny_recipe(system, **changes), dataset, run).run()


def train_every_system(folder: str, runs: str) -> None:
    """Entry point of one of several processes."""
    torch.set_num_threads(1)
    dataset = draw(Path(folder) / os.environ["RANK"])
    with joined_processes("cpu"), pytest.MonkeyPatch.context() as patch:
        hold_statistics(patch)
        for system in TRAINED:
            train(system, dataset, Path(runs) / system)


def spawn(world: int, function: str, *arguments: object) -> list[subprocess.Popen[str]]:
    """Start processes that run a function of this file, as `torchrun` does."""
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import {Path(__file__).stem} as t; "
    code += f"t.{function}(*sys.argv[2:])"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), *map(str, arguments)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(number), "LOCAL_RANK": str(number)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(world)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> None:
    ended = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), ended


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process, by system."""
    folder = tmp_path_factory.mktemp("alone")
    dataset = draw(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        hold_statistics(patch)
        for system in TRAINED:
            train(system, dataset, folder / system)
    return folder


@pytest.fixture(scope="module", params=[2, 3])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two and of three processes, by system."""
    folder = tmp_path_factory.mktemp("together")
    finish(spawn(request.param, "train_every_system", folder / "data", folder))
    return folder


@pytest.mark.parametrize("system", TRAINED)
def test_several_processes_train_as_one_on_the_joined_batch(
    alone: Path, together: Path, system: str
) -> None:
    ours, theirs = (read_log(runs / system / "log.jsonl") for runs in (together, alone))
    assert len(ours) == len(theirs) > 1
    for one, other in zip(ours, theirs, strict=True):
        assert (one["stage"], one["iteration"]) == (other["stage"], other["iteration"])
        assert one["losses"] == pytest.approx(other["losses"], rel=1e-4, abs=1e-5), one["stage"]
    assert_same_run(together / system, alone / system)


def assert_same_run(ours: Path, theirs: Path) -> None:
    """The last checkpoints agree to rounding: a thousandth of a percent of the largest number."""
    a, b = (load_file(run / "last" / "model.safetensors") for run in (ours, theirs))
    assert a.keys() == b.keys()
    for name, value in b.items():
        scale = max(1.0, float(value.abs().max()))
        difference = float((a[name].double() - value.double()).abs().max())
        assert difference <= 1e-5 * scale, (name, difference, scale)


def train_further(folder: str, run: str, iterations: str) -> None:
    """Entry point of one of several processes."""
    torch.set_num_threads(1)
    dataset = draw(Path(folder) / os.environ.get("RANK", "0"))
    with joined_processes("cpu"), pytest.MonkeyPatch.context() as patch:
        hold_statistics(patch)
        recipe = tiny_recipe("oim", iterations=int(iterations), schedule="constant")
        Trainer(recipe, dataset, Path(run)).run(resume=True)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes, two iterations of four."""
    folder = tmp_path_factory.mktemp("half")
    finish(spawn(2, "train_further", folder / "data", folder / "run", 2))
    return folder


@pytest.mark.parametrize("world", [1, 3])
def test_a_run_goes_on_with_another_number_of_processes(
    half: Path, tmp_path: Path, world: int
) -> None:
    train_further(str(tmp_path / "data"), str(tmp_path / "steady"), "4")
    shutil.copytree(half / "run", tmp_path / "run")
    if world == 1:
        train_further(str(tmp_path / "data"), str(tmp_path / "run"), "4")
    else:
        finish(spawn(world, "train_further", tmp_path / "data", tmp_path / "run", 4))
    assert load_progress(tmp_path / "run" / "last").iteration == 4
    assert_same_run(tmp_path / "run", tmp_path / "steady")


def train_until_one_ends(folder: str, run: str, who: str, how: str) -> None:
    """Entry point of one of two processes; one ends in its fourth iteration."""
    torch.set_num_threads(1)
    step, steps = Trainer._step, []

    def ending(trainer: Trainer, *arguments: Any) -> None:
        steps.append(arguments)
        if trainer.rank == int(who) and len(steps) == 4:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise DataError("a picture is gone")
        step(trainer, *arguments)

    Trainer._step = ending  # type: ignore[method-assign]
    recipe = tiny_recipe("oim", crop_iterations=0, iterations=500, checkpoint_every=1)
    with joined_processes("cpu"):
        Trainer(recipe, draw(Path(folder) / os.environ["RANK"]), Path(run)).run()


@pytest.mark.parametrize(
    ("who", "how", "message"),
    [
        (0, "killed", "the process of rank 0 has ended: the last checkpoint is kept"),
        (1, "killed", "the process of rank 1 has ended: the last checkpoint is kept"),
        (1, "failed", "the process of rank 1 (DataError: a picture is gone) has ended"),
    ],
)
def test_a_process_that_ends_stops_the_others_and_is_named(
    tmp_path: Path, who: int, how: str, message: str
) -> None:
    run = tmp_path / "run"
    processes = spawn(2, "train_until_one_ends", tmp_path / "data", run, who, how)
    errors = [process.communicate(timeout=240)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes[who] == (-signal.SIGKILL if how == "killed" else 1), errors[who]
    assert codes[1 - who] == 1, errors[1 - who]
    assert f"TrainingError: {message}" in errors[1 - who]
    assert load_progress(run / "last").iteration == 3
    load_checkpoint(run / "last")


def train_differently(folder: str) -> None:
    """Entry point of one of two processes, whose recipes and then data differ."""
    torch.set_num_threads(1)
    number = int(os.environ["RANK"])
    dataset, fewer = draw(Path(folder) / str(number)), draw(Path(folder) / "less", 12 - number)
    with joined_processes("cpu"):
        for recipe, data, message in (
            (tiny_recipe("oim", lr=0.01 * (1 + number)), dataset, "lr is 0.02 in rank 1 and 0.01"),
            (tiny_recipe("oim"), fewer, "training pictures is 11 in rank 1 and 12 in rank 0"),
        ):
            with pytest.raises(TrainingError, match="the processes do not train the same") as error:
                Trainer(recipe, data, Path(folder) / "run")
            assert message in str(error.value)
        # What each process may have of its own.
        Trainer(tiny_recipe("oim", loader_workers=number), dataset, Path(folder) / "run")


def test_processes_that_train_something_else_say_what(tmp_path: Path) -> None:
    finish(spawn(2, "train_differently", tmp_path))


def join_rows() -> None:
    """Entry point of one of three processes, of which one has no rows."""
    with joined_processes("cpu"):
        number = rank()
        own = torch.full((number, 2), float(number), requires_grad=True)
        rows, ids, marks = join(own, torch.arange(number) + 10 * number, torch.ones(number) > 0)
        assert rows.tolist() == [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]]
        assert (ids.tolist(), marks.tolist()) == ([10, 20, 21], [True] * 3)
        if number:
            rows.square().mean().backward()
            assert own.grad is not None
            # Three times the gradient of the joined batch: an average over the processes follows.
            assert torch.allclose(own.grad, 3 * 2 * own.detach() / 6)
        assert [len(r) for r in join(torch.zeros(0, 4), torch.zeros(0))] == [0, 0]
        assert all_counts([number, 7]) == ([0, 7, 1, 7, 2, 7], slice(2 * number, 2 * number + 2))
        assert all_rows(number) == (3, slice(max(0, number - 1), max(0, number - 1) + number))


def test_rows_are_joined_in_rank_order_with_their_gradient() -> None:
    finish(spawn(3, "join_rows"))


def test_alone_there_is_one_process_of_rank_0() -> None:
    assert (rank(), world_size()) == (0, 1)
    barrier()
    assert all_counts([3, 1]) == ([3, 1], slice(0, 2))
    assert all_rows(4) == (4, slice(0, 4))


def test_gather_alone_returns_what_came() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    embeddings, ids = gather(x, torch.tensor([1, 2, -1]))
    assert torch.equal(embeddings, x.detach())
    assert not embeddings.requires_grad
    assert ids.tolist() == [1, 2, -1]
