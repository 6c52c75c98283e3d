"""A run learns, and ends with the same bytes however often it was stopped."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor

from personsearch.datasets.dataset import Dataset
from personsearch.errors import (
    CheckpointError,
    DataError,
    ModelError,
    NonFiniteLossError,
    OutOfMemoryError,
    RecipeError,
)
from personsearch.systems.base import PersonSearchModel
from personsearch.training import checkpoint, loop
from personsearch.training.checkpoint import (
    load_checkpoint,
    load_progress,
    load_tensors,
    restore,
)
from personsearch.training.loop import Trainer, read_log
from personsearch.training.recipe import Recipe, make_recipe
from personsearch.training.report import Report, UnreadLosses
from personsearch.training.stages import SceneStage
from personsearch.training.training_set import PictureCache
from personsearch.types import Query, Scene, SearchProtocol

CLOTHES = [
    ((200, 30, 30), (30, 30, 120)),
    ((30, 160, 40), (230, 220, 60)),
    ((40, 70, 220), (240, 240, 240)),
    ((230, 140, 20), (20, 20, 20)),
]


pytestmark = pytest.mark.usefixtures("one_thread")


def make_scene(folder: Path, name: str, ids: list[int], rng: np.random.Generator) -> Scene:
    """A street of 96 x 64 in grey with striped people in it, one beside the other."""
    picture = Image.fromarray(rng.integers(110, 150, (64, 96, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(picture)
    boxes = []
    for place, identity in enumerate(ids):
        x, y = int(rng.integers(2, 26)) + 46 * place, int(rng.integers(4, 18))
        shirt, trousers = CLOTHES[identity] if identity >= 0 else ((150, 20, 150), (90, 60, 30))
        draw.ellipse([x + 4, y, x + 11, y + 9], fill=(220, 180, 150))
        draw.rectangle([x, y + 10, x + 15, y + 24], fill=shirt)
        draw.rectangle([x, y + 16, x + 15, y + 18], fill=trousers)
        draw.rectangle([x + 2, y + 25, x + 13, y + 39], fill=trousers)
        boxes.append([x, y, x + 16, y + 40])
    picture.save(folder / f"{name}.png")
    return Scene(name, folder / f"{name}.png", (96, 64), np.array(boxes, np.float32), np.array(ids))


def make_dataset(folder: Path) -> Dataset:
    """Ten training pictures of four people, and six more of them to validate on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pairs = [[0, 1], [2, 3], [1, 2], [3, 0], [0, 2], [1, 3], [-1, 0], [3, 1], [2, -1], [0, 3]]
    train = [make_scene(folder, f"train{n}", ids, rng) for n, ids in enumerate(pairs)]
    val = [make_scene(folder, f"val{n}", ids, rng) for n, ids in enumerate(pairs[:6])]
    queries = [
        Query(scene.name, box, int(identity))
        for scene in val[:2]
        for box, identity in zip(scene.boxes, scene.ids, strict=True)
    ]
    galleries = [[scene.name for scene in val if scene.name != q.scene] for q in queries]
    targets = [
        {s.name: s.boxes[s.ids == q.id][0] for s in val if q.id in s.ids and s.name != q.scene}
        for q in queries
    ]
    protocol = SearchProtocol(name="val", queries=queries, galleries=galleries, targets=targets)
    return Dataset("drawn", folder, {"train": train, "val": val}, {"val": protocol})


def small_recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {"system": "oim", "iterations": 6, "lr": 0.02, "backbone": "small"}
    values |= {"backbone_width": 8, "embedding_dim": 16, "queue_size": 4, "roi_size": [8, 4]}
    values |= {"min_size": 64, "max_size": 96, "anchor_sizes": [25], "aspect_ratios": [2.5]}
    values |= {"rpn_post_nms_top_n_train": 40, "rpn_post_nms_top_n_test": 20, "rois_per_image": 16}
    values |= {"rpn_batch_size_per_image": 32, "max_detections": 10}
    values |= {"loader_workers": 0, "images_per_iteration": 2, "precision": "float32"}
    values |= {"log_every": 2, "checkpoint_every": 2, "evaluate_every": 3, "clip_norm": 10.0}
    return make_recipe(values | changes)


TWO_STAGES: dict[str, Any] = {"crop_iterations": 5, "crop_lr": 0.02, "canvases_per_iteration": 1}
TWO_STAGES |= {"crops_per_canvas": 4, "scale_jitter": 0.1, "color_jitter": 0.2, "erase": 0.3}
TWO_STAGES |= {"eval_score_threshold": 0.05}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("drawn"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def assert_same_run(a: Path, b: Path) -> None:
    """Both runs hold the same weights, memories, positions, optimizer, progress and best."""
    for name in ("last", "best"):
        ours, theirs = files_of(a / name), files_of(b / name)
        assert ours.keys() == theirs.keys()
        for part in ours:
            if part.endswith(".safetensors"):
                x, y = load_file(a / name / part), load_file(b / name / part)
                assert x.keys() == y.keys()
                different = [key for key in x if not torch.equal(x[key], y[key])]
                assert different == [], f"{name}/{part}"
            else:
                assert ours[part] == theirs[part], f"{name}/{part}"


def places(run: Path) -> list[tuple[str, int]]:
    return [(report["stage"], report["iteration"]) for report in read_log(run / "log.jsonl")]


class Killed(BaseException):
    """Ends a run at once, as a kill would, in this process."""


def test_a_run_learns_to_find_people_and_to_tell_them_apart(
    dataset: Dataset, tmp_path: Path
) -> None:
    recipe = small_recipe(
        iterations=140,
        lr=0.05,
        backbone_width=16,
        embedding_dim=64,
        warmup=10,
        schedule="cosine",
        log_every=10,
        evaluate_every=140,
        embedding_grid=[4, 1],
        detection_grid=[3, 2],
    )
    reports: list[Report] = []
    trainer = Trainer(recipe, dataset, tmp_path / "run", listener=reports.append)
    before = trainer.validate()
    best = trainer.run()
    first, last = reports[0].losses, reports[-1].losses
    for name in ("rpn_objectness", "detection", "oim"):
        assert last[name] < 0.6 * first[name], name
    after = reports[-1].validation
    assert after["detection_ap"] > 0.8 > before["detection_ap"] + 0.3
    assert after["mean_ap"] > 0.8 > before["mean_ap"]
    assert best == tmp_path / "run" / "best"
    loaded, its_recipe = load_checkpoint(best)
    assert its_recipe == recipe
    assert all(torch.isfinite(v).all() for v in loaded.state_dict().values())
    assert json.loads((best / "metrics.json").read_text())["validation"] == after


def test_a_run_writes_a_log_curves_and_checkpoints(dataset: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = small_recipe(**TWO_STAGES)
    assert Trainer(recipe, dataset, run).run() == run / "best"
    assert {file.name for file in run.iterdir()} == {"log.jsonl", "curves.png", "last", "best"}
    log = read_log(run / "log.jsonl")
    # A validation is never put off to the next report.
    expected = [("crops", i) for i in (2, 4, 5)] + [("scenes", i) for i in (2, 3, 4, 6)]
    assert places(run) == expected
    assert [r["iteration"] for r in log if "validation" in r] == [3, 6]
    assert set(log[0]["losses"]) == {"softmax"}
    assert set(log[-1]["losses"]) == {"rpn_objectness", "rpn_box", "detection", "box", "oim"}
    assert log[-1]["learning_rate"] == 0.02
    progress = load_progress(run / "last")
    assert (progress.stage, progress.iteration) == ("scenes", 6)
    figures = [r["validation"]["mean_ap"] for r in log if "validation" in r]
    assert progress.best == max(figures)


def test_the_reported_losses_are_means_since_the_last_report(
    dataset: Dataset, tmp_path: Path
) -> None:
    logs = []
    for every in (1, 3):
        reports: list[Report] = []
        recipe = small_recipe(log_every=every, accumulate=2)
        Trainer(recipe, dataset, tmp_path / f"{every}", listener=reports.append).run()
        logs.append([report.losses["detection"] for report in reports])
    assert logs[1] == pytest.approx([np.mean(logs[0][:3]), np.mean(logs[0][3:])])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_stopped_at_any_iteration_ends_with_the_same_bytes(
    dataset: Dataset, tmp_path: Path, optimizer: str
) -> None:
    recipe = small_recipe(optimizer=optimizer, **TWO_STAGES)
    steady, stopped = tmp_path / "steady", tmp_path / "stopped"
    Trainer(recipe, dataset, steady).run()

    stop_at = [("crops", 2), ("crops", 5), ("scenes", 3), ("scenes", 4)]

    def interrupt(report: Report) -> None:
        if stop_at and (report.stage, report.iteration) == stop_at[0]:
            stop_at.pop(0)
            os.kill(os.getpid(), signal.SIGINT)

    for place in list(stop_at):
        with pytest.raises(KeyboardInterrupt):
            Trainer(recipe, dataset, stopped, listener=interrupt).run(resume=True)
        progress = load_progress(stopped / "last")
        assert (progress.stage, progress.iteration) == place
    assert Trainer(recipe, dataset, stopped).run(resume=True) == stopped / "best"
    assert_same_run(stopped, steady)
    assert len(set(places(stopped))) == len(places(stopped))
    assert set(places(steady)) <= set(places(stopped))


def train_and_kill(folder: str, run: str, optimizer: str, saves: str) -> None:
    """Entry point of a process that is killed in the middle of its save of that number."""
    torch.set_num_threads(1)
    count = 0
    rename = Path.rename

    def killing(path: Path, target: Path) -> Path:
        nonlocal count
        # The new checkpoint is complete, the old one is out of its place.
        if path.name == "last.new":
            count += 1
            if count == int(saves):
                os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.rename = killing  # type: ignore[method-assign]
    recipe = small_recipe(optimizer=optimizer, **TWO_STAGES)
    Trainer(recipe, make_dataset(Path(folder)), Path(run)).run(resume=True)


def in_process(function: str, *arguments: object, **variables: str) -> list[str]:
    """The command that runs a function of this file."""
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import {Path(__file__).stem} as t; "
    code += f"t.{function}(*sys.argv[2:])"
    folder = Path(__file__).parent
    return [sys.executable, "-c", code, str(folder), *map(str, arguments)]


@pytest.mark.parametrize(
    ("optimizer", "saves", "kept"), [("adam", 2, "crops"), ("sgd", 5, "scenes")]
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    dataset: Dataset, tmp_path: Path, optimizer: str, saves: int, kept: str
) -> None:
    recipe = small_recipe(optimizer=optimizer, **TWO_STAGES)
    steady, killed = tmp_path / "steady", tmp_path / "killed"
    command = in_process("train_and_kill", dataset.root, killed, optimizer, saves)
    died = subprocess.run(command, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (killed / "last").exists()
    assert load_progress(killed / "last.old").stage == kept
    with (killed / "log.jsonl").open("a") as log:
        log.write('{"stage": "scen')
    Trainer(recipe, dataset, steady).run()
    Trainer(recipe, dataset, killed).run(resume=True)
    assert_same_run(killed, steady)
    assert places(killed) == places(steady)
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in steady.iterdir())


def test_what_was_reported_after_the_checkpoint_is_reported_once(
    dataset: Dataset, tmp_path: Path
) -> None:
    recipe = small_recipe(log_every=1, checkpoint_every=4)

    def kill(report: Report) -> None:
        if report.iteration == 6:
            raise Killed

    with pytest.raises(Killed):
        Trainer(recipe, dataset, tmp_path, listener=kill).run()
    assert [i for _, i in places(tmp_path)] == [1, 2, 3, 4, 5, 6]
    Trainer(recipe, dataset, tmp_path).run(resume=True)
    assert [i for _, i in places(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_run_killed_before_its_first_checkpoint_starts_anew(
    dataset: Dataset, tmp_path: Path
) -> None:
    recipe = small_recipe(log_every=1)

    def kill(report: Report) -> None:
        raise Killed

    with pytest.raises(Killed):
        Trainer(recipe, dataset, tmp_path / "killed", listener=kill).run()
    Trainer(recipe, dataset, tmp_path / "killed").run(resume=True)
    Trainer(recipe, dataset, tmp_path / "steady").run()
    assert_same_run(tmp_path / "killed", tmp_path / "steady")
    assert places(tmp_path / "killed") == places(tmp_path / "steady")


def test_a_finished_run_is_not_trained_again(dataset: Dataset, tmp_path: Path) -> None:
    recipe = small_recipe()
    Trainer(recipe, dataset, tmp_path).run()
    before = files_of(tmp_path / "last")
    (tmp_path / "log.jsonl").unlink()
    reports: list[Report] = []
    trainer = Trainer(recipe, dataset, tmp_path, listener=reports.append)
    assert trainer.run(resume=True) == tmp_path / "best"
    assert reports == []
    assert files_of(tmp_path / "last") == before


def test_without_iterations_the_checkpoint_it_starts_from_is_the_result(
    dataset: Dataset, tmp_path: Path
) -> None:
    first = Trainer(small_recipe(), dataset, tmp_path / "first").run()
    nothing = {"iterations": 0, "crop_iterations": 0, "warmup": 0}
    recipe = small_recipe(**nothing, init=str(first))
    for _ in range(2):  # finished runs are run again
        last = Trainer(recipe, dataset, tmp_path / "second").run(resume=True)
    ours, theirs = load_tensors(last), load_tensors(first)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(RecipeError, match="nothing would be trained"):
        Trainer(small_recipe(**nothing), dataset, tmp_path / "third")


def test_the_number_of_loader_processes_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    for workers in (0, 2):
        recipe = small_recipe(loader_workers=workers, cache_pictures=True, iterations=2)
        Trainer(recipe, dataset, tmp_path / f"{workers}").run()
    a, b = (load_file(tmp_path / n / "last" / "model.safetensors") for n in ("0", "2"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_another_seed_is_another_run(dataset: Dataset, tmp_path: Path) -> None:
    weights = []
    for seed in (0, 1):
        Trainer(small_recipe(iterations=1, seed=seed), dataset, tmp_path / f"{seed}").run()
        weights.append(load_file(tmp_path / f"{seed}" / "last" / "model.safetensors"))
    assert not torch.equal(weights[0]["embedder.weight"], weights[1]["embedder.weight"])


def test_another_recipe_does_not_go_on(dataset: Dataset, tmp_path: Path) -> None:
    Trainer(small_recipe(iterations=2), dataset, tmp_path).run()
    before = files_of(tmp_path / "last")
    with pytest.raises(CheckpointError, match=r"another recipe: lr is 0\.03 but was 0\.02"):
        Trainer(small_recipe(iterations=2, lr=0.03), dataset, tmp_path).run(resume=True)
    assert files_of(tmp_path / "last") == before


def test_an_extended_run_ends_with_the_bytes_of_a_longer_one(
    dataset: Dataset, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"decay_at": [1, 3], "crop_iterations": 1, "crop_lr": 0.02}
    for folder, lengths in (("extended", (2, 4)), ("longer", (4,))):
        for length in lengths:
            recipe = small_recipe(iterations=length, validation_fraction=0.0, **changes)
            Trainer(recipe, dataset, tmp_path / folder).run(resume=True)
    weights = [
        load_file(tmp_path / folder / "last" / "model.safetensors")
        for folder in ("extended", "longer")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert places(tmp_path / "extended") == places(tmp_path / "longer")


@pytest.mark.parametrize("left", ["last", "last.old", "best", "best.old"])
def test_a_folder_that_holds_a_run_is_not_overwritten(
    dataset: Dataset, tmp_path: Path, left: str
) -> None:
    (tmp_path / left).mkdir()
    (tmp_path / "log.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match=r"already holds a run.*--resume"):
        Trainer(small_recipe(), dataset, tmp_path).run()
    assert (tmp_path / "log.jsonl").read_text() == "{}\n"


def test_a_folder_that_cannot_be_written_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        Trainer(small_recipe(), dataset, tmp_path / "file" / "run").run()


def test_a_stage_that_the_run_does_not_have_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    Trainer(small_recipe(iterations=2), dataset, tmp_path).run()
    where = tmp_path / "last" / "training.json"
    where.write_text(where.read_text().replace("scenes", "dreams"))
    with pytest.raises(CheckpointError, match="'dreams'"):
        Trainer(small_recipe(iterations=2), dataset, tmp_path).run(resume=True)


def break_loss(monkeypatch: pytest.MonkeyPatch, trainer: Trainer, calls: int, value: float) -> None:
    """From that forward pass on the loss `oim` is that value."""
    original, made = trainer.model.forward, []

    def forward(*arguments: Any) -> dict[str, Tensor]:
        made.append(arguments)
        losses: dict[str, Tensor] = original(*arguments)
        return losses | ({"oim": losses["oim"] * value} if len(made) > calls else {})

    monkeypatch.setattr(trainer.model, "forward", forward)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    trainer = Trainer(small_recipe(checkpoint_every=1), dataset, tmp_path)
    shown: list[list[str]] = []
    stage: Any = trainer.stages[0]
    batches = stage.batches

    def noted(*arguments: int) -> Iterator[Any]:
        for batch in batches(*arguments):
            shown.append(batch.names)
            yield batch

    monkeypatch.setattr(stage, "batches", noted)
    break_loss(monkeypatch, trainer, 3, value)
    with pytest.raises(NonFiniteLossError, match=r"iteration 3: loss {'oim': (nan|inf)}") as caught:
        trainer.run()
    assert all(name in str(caught.value) for name in shown[3])
    assert str(tmp_path) in str(caught.value)
    assert load_progress(tmp_path / "last").iteration == 3
    model, _ = load_checkpoint(tmp_path / "last")
    assert all(torch.isfinite(v).all() for v in model.state_dict().values())


@pytest.mark.parametrize("clip_norm", [0.0, 1e4])
def test_a_learning_rate_that_is_far_too_high_ends_the_run(
    dataset: Dataset, tmp_path: Path, clip_norm: float
) -> None:
    Trainer(small_recipe(iterations=2), dataset, tmp_path / "good").run()
    recipe = small_recipe(lr=1e38, checkpoint_every=1, clip_norm=clip_norm, accumulate=2)
    with pytest.raises(NonFiniteLossError, match="lower lr"):
        Trainer(recipe, dataset, tmp_path / "high").run()
    if (tmp_path / "high" / "last").exists():
        model, _ = load_checkpoint(tmp_path / "high")
        assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_gradient_that_is_not_finite_ends_the_run(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(small_recipe(checkpoint_every=1), dataset, tmp_path)
    weight: Any = trainer.model.embedder.weight
    weight.register_hook(lambda g: g * float("nan") if (tmp_path / "last").exists() else g)
    with pytest.raises(NonFiniteLossError, match=r"iteration 1: the gradient .*'train\d"):
        trainer.run()
    assert load_progress(tmp_path / "last").iteration == 1
    model, _ = load_checkpoint(tmp_path / "last")
    assert all(torch.isfinite(v).all() for v in model.state_dict().values())


def test_losses_are_read_with_the_report_and_before_a_checkpoint(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = UnreadLosses.read

    def counted(self: UnreadLosses) -> list[dict[str, float]]:
        values = read(self)
        reads.append(len(values))
        return values

    monkeypatch.setattr(UnreadLosses, "read", counted)
    Trainer(
        small_recipe(log_every=4, checkpoint_every=3, evaluate_every=6), dataset, tmp_path
    ).run()
    # The losses and the gradient of iterations 1 to 3, of 4, and of 5 and 6.
    assert reads == [6, 2, 4, 0]


@pytest.mark.parametrize("crash", [False, True])
def test_a_loss_that_is_not_finite_is_found_later_and_nothing_is_written_after_it(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    recipe = small_recipe(log_every=100, checkpoint_every=2, evaluate_every=5, iterations=5)
    trainer = Trainer(recipe, dataset, tmp_path)
    shown: list[list[str]] = []
    original = trainer.model.forward

    def forward(images: list[Tensor], targets: Any) -> dict[str, Tensor]:
        if len(shown) == 4 and crash:
            raise ModelError("the network gives NaN as a score")
        losses: dict[str, Tensor] = original(images, targets)
        return losses | ({"oim": losses["oim"] * float("nan")} if len(shown) == 3 else {})

    def noted(trainer: Trainer, stage: Any, batch: Any, iteration: int) -> None:
        shown.append(batch.names)
        backward(trainer, stage, batch, iteration)

    backward = Trainer._backward
    monkeypatch.setattr(Trainer, "_backward", noted)
    monkeypatch.setattr(trainer.model, "forward", forward)
    with pytest.raises(NonFiniteLossError, match=r"iteration 2: loss {'oim': nan}") as caught:
        trainer.run()
    assert all(name in str(caught.value) for name in shown[2])
    assert load_progress(tmp_path / "last").iteration == 2
    assert not (tmp_path / "best").exists()


def test_a_fused_optimizer_leaves_out_a_step_that_is_not_finite(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fused(stage: Any, parameters: Any, biases: Any = ()) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, 0.01, 0.9, fused=True)

    monkeypatch.setattr(SceneStage, "make_optimizer", fused)
    trainer = Trainer(small_recipe(log_every=100, checkpoint_every=100), dataset, tmp_path)
    weight: Any = trainer.model.embedder.weight
    before, gradients = weight.detach().clone(), []

    def break_second(gradient: Tensor) -> Tensor:
        gradients.append(gradient)
        return gradient * (float("nan") if len(gradients) == 2 else 1.0)

    weight.register_hook(break_second)
    with pytest.raises(NonFiniteLossError, match="iteration 1: the gradient is not finite"):
        trainer.run()
    assert len(gradients) > 2
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert not torch.equal(weight, before)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPU: can't allocate memory"),
    ],
)
def test_a_lack_of_memory_names_the_settings_to_lower(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    trainer = Trainer(small_recipe(), dataset, tmp_path)

    def forward(*_: Any) -> dict[str, Tensor]:
        raise error

    monkeypatch.setattr(trainer.model, "forward", forward)
    expected = r"images_per_iteration \(2\), max_size \(96\), rois_per_image \(16\)"
    with pytest.raises(OutOfMemoryError, match=expected):
        trainer.run()


def test_frozen_layers_have_no_gradient_and_no_optimizer(dataset: Dataset, tmp_path: Path) -> None:
    trainer = Trainer(small_recipe(iterations=1, frozen_stages=2), dataset, tmp_path)
    frozen = {n for n, p in trainer.model.named_parameters() if not p.requires_grad}
    assert frozen
    trained = {id(p) for p in trainer.stages[0].parameters(trainer.model)}
    trainer.run()
    for name, parameter in trainer.model.named_parameters():
        assert (id(parameter) in trained) == (name not in frozen), name
        assert (parameter.grad is None) or name not in frozen, name


def test_a_full_disk_keeps_the_last_good_checkpoint_and_the_run_goes_on_from_it(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe()
    full, steady = tmp_path / "full", tmp_path / "steady"
    save_file = checkpoint.save_file

    def filling(tensors: Mapping[str, Tensor], file: Path, *rest: Any) -> None:
        # Half of the tensors fit.
        if (full / "last").exists():
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(dict(tensors), file, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", filling)
        with pytest.raises(CheckpointError, match="No space left on device"):
            Trainer(recipe, dataset, full).run()
    assert load_progress(full / "last").iteration == 2
    load_checkpoint(full / "last")
    Trainer(recipe, dataset, full).run(resume=True)
    Trainer(recipe, dataset, steady).run()
    assert_same_run(full, steady)


def quiet_gradients(trainer: Trainer) -> list[Tensor]:
    """The gradients of one iteration, which is stopped before its step."""
    taken: list[Tensor] = []

    def take(optimizer: Any, parameters: list[Any], *rest: Any) -> None:
        taken.extend(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters)
        raise Killed

    trainer._step = take  # type: ignore[method-assign]
    with pytest.raises(Killed):
        trainer.run()
    return taken


def test_accumulated_gradients_are_those_of_the_larger_batch(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loss that is a plain mean over the pictures, with normalisation and memories held still.
    def mean_loss(self: Any, model: Any, images: list[Tensor], batch: Any) -> dict[str, Tensor]:
        # The undecorated method: this loss needs a gradient.
        embed = type(model).embed.__wrapped__
        everyone = torch.cat(embed(model, images, [t.boxes[:2] for t in batch.targets]))
        assert len(everyone) == 2 * len(images)
        return {"mean": (everyone @ torch.linspace(0, 1, everyone.shape[1])).mean()}

    monkeypatch.setattr(loop.make_stages.__globals__["SceneStage"], "losses", mean_loss)
    same: dict[str, Any] = {"norm": "frozen", "flip": 0.0}
    # Both see the same four pictures: an epoch's order does not depend on the batch size.
    small = Trainer(small_recipe(accumulate=2, **same), dataset, tmp_path / "a")
    large = Trainer(small_recipe(images_per_iteration=4, **same), dataset, tmp_path / "b")
    pairs = list(zip(quiet_gradients(small), quiet_gradients(large), strict=True))
    # Parameters that this loss does not reach have none; at least the embedder's are there.
    assert sum(bool(b.abs().sum() > 0) for _, b in pairs) > 5
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("clip_norm", "length"), [(0.5, 0.5), (1e6, None), (0.0, None)])
def test_gradients_are_clipped_to_the_norm_asked_for(
    dataset: Dataset, tmp_path: Path, clip_norm: float, length: float | None
) -> None:
    recipe = small_recipe(clip_norm=clip_norm, momentum=0.0, weight_decay=0.0, lr=1.0, iterations=1)
    trainer = Trainer(recipe, dataset, tmp_path)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.run()
    moved = [b - p.detach() for b, p in zip(before, trainer.model.parameters(), strict=True)]
    norm = float(torch.cat([m.flatten() for m in moved]).norm())
    if length is None:
        assert norm > 0.6
    else:
        assert norm == pytest.approx(length, rel=1e-3)


def without(dataset: Dataset, **changes: Any) -> Dataset:
    fields = {"name": dataset.name, "root": dataset.root, "splits": dataset.splits}
    return Dataset(**(fields | changes))


def test_data_without_labelled_people_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    nameless = [
        Scene(s.name, s.path, s.size, s.boxes, np.full(len(s.boxes), -1))
        for s in dataset.split("train")
    ]
    for train in (nameless, []):
        data = without(dataset, splits={"train": train, "val": []})
        with pytest.raises(DataError, match=r"'drawn'.* 0 identities"):
            Trainer(small_recipe(), data, tmp_path)


def test_data_without_a_training_split_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'train'"):
        Trainer(
            small_recipe(validation_fraction=0.0), without(dataset, splits={"val": []}), tmp_path
        )


def test_a_batch_larger_than_the_data_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"batch of 11 pictures .* training set has 10"):
        Trainer(small_recipe(images_per_iteration=11), dataset, tmp_path)


def test_without_a_validation_split_the_best_checkpoint_is_the_last(
    dataset: Dataset, tmp_path: Path
) -> None:
    data = without(dataset, splits={"train": dataset.split("train")})
    recipe = small_recipe(validation_fraction=0.0, iterations=2, evaluate_every=1)
    trainer = Trainer(recipe, data, tmp_path)
    assert trainer.num_ids == 4
    assert trainer.run() == tmp_path / "best"
    assert load_progress(tmp_path / "last").best is None
    assert json.loads((tmp_path / "best" / "metrics.json").read_text()) == {"iteration": 2}
    best, last = (load_tensors(tmp_path / name) for name in ("best", "last"))
    assert best.keys() == last.keys()
    assert all(torch.equal(best[k], last[k]) for k in best)
    # An extended run moves both.
    longer = small_recipe(validation_fraction=0.0, iterations=3, evaluate_every=1)
    Trainer(longer, data, tmp_path).run(resume=True)
    assert json.loads((tmp_path / "best" / "metrics.json").read_text()) == {"iteration": 3}


def test_a_validation_split_is_made_by_identity_where_there_is_none(
    dataset: Dataset, tmp_path: Path
) -> None:
    data = without(dataset, splits={"train": dataset.split("train")})
    trainer = Trainer(small_recipe(validation_fraction=0.3), data, tmp_path)
    assert 0 < trainer.num_ids < 4
    assert len(trainer.validation) > 0
    assert not {s.name for s in trainer.scenes} & {s.name for s in trainer.validation}


def test_a_validation_split_without_a_protocol_measures_detection(
    dataset: Dataset, tmp_path: Path
) -> None:
    trainer = Trainer(small_recipe(), without(dataset), tmp_path)
    assert set(trainer.validate()) == {"detection_ap", "detection_recall"}


def test_pictures_that_show_nobody_are_trained_on(dataset: Dataset, tmp_path: Path) -> None:
    empty = [
        Scene(s.name, s.path, s.size, np.zeros((0, 4)), np.zeros(0, np.int64))
        for s in dataset.split("train")[1:]
    ]
    data = without(dataset, splits={"train": [dataset.split("train")[0], *empty], "val": []})
    recipe = small_recipe(iterations=3, validation_fraction=0.0)
    Trainer(recipe, data, tmp_path).run()
    model, _ = load_checkpoint(tmp_path)
    assert all(torch.isfinite(v).all() for v in model.state_dict().values())


def test_tensorboard_files_hold_every_figure(dataset: Dataset, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Trainer(small_recipe(tensorboard=True, **TWO_STAGES), dataset, tmp_path).run()
    folder = tmp_path / "tensorboard"
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    events = EventAccumulator(str(folder))
    events.Reload()
    log = read_log(tmp_path / "log.jsonl")
    # The second stage follows the first one of 5 iterations.
    for name, stage, before in (("softmax", "crops", 0), ("oim", "scenes", 5)):
        seen = [(e.step, e.value) for e in events.Scalars(f"loss/{name}")]
        expected = [
            (before + r["iteration"], r["losses"][name]) for r in log if r["stage"] == stage
        ]
        assert [step for step, _ in seen] == [step for step, _ in expected]
        assert [v for _, v in seen] == pytest.approx([v for _, v in expected], rel=1e-5)
    assert [e.step for e in events.Scalars("validation/mean_ap")] == [8, 11]


def test_tensorboard_that_is_not_installed_is_said_before_training(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RecipeError, match=r"personsearch\[tensorboard\]"):
        Trainer(small_recipe(tensorboard=True), dataset, tmp_path)


def test_a_log_that_was_cut_is_read_up_to_the_cut(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none.jsonl") == []
    (tmp_path / "log.jsonl").write_text('{"iteration": 1}\n{"iterati')
    assert read_log(tmp_path / "log.jsonl") == [{"iteration": 1}]


def train_together(folder: str, run: str) -> None:
    """Entry point of one of several processes, as torchrun starts them."""
    from personsearch.training.devices import joined_processes

    torch.set_num_threads(1)
    with joined_processes("cpu") as device:
        recipe = small_recipe(
            iterations=3, **(TWO_STAGES | {"crop_iterations": 2, "canvases_per_iteration": 2})
        )
        trainer = Trainer(recipe, make_dataset(Path(folder)), Path(run), device=device)
        trainer.run()
        torch.save(trainer.model.state_dict(), f"{run}-{trainer.rank}.pt")


def test_two_processes_end_with_the_same_network(dataset: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = in_process("train_together", tmp_path / "data", run)
    port = str(29500 + os.getpid() % 3000)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    make_dataset(tmp_path / "data")
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    states = [torch.load(f"{run}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    saved = load_file(run / "last" / "model.safetensors")
    assert states[0].keys() == states[1].keys() == saved.keys()
    for name, value in saved.items():
        assert torch.equal(states[0][name], value), name
        assert torch.equal(states[1][name], value), name
    assert places(run) == [("crops", 2), ("scenes", 2), ("scenes", 3)]


def test_a_trainer_that_was_stopped_can_restore_and_go_on(dataset: Dataset, tmp_path: Path) -> None:
    recipe = small_recipe()

    def interrupt(report: Report) -> None:
        if report.iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)

    trainer = Trainer(recipe, dataset, tmp_path / "a", listener=interrupt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert signal.getsignal(signal.SIGINT) is before
    trainer.run(resume=True)
    Trainer(recipe, dataset, tmp_path / "b").run()
    assert_same_run(tmp_path / "a", tmp_path / "b")
    fresh = recipe.build(4)
    restore(fresh, tmp_path / "a" / "last")


def test_a_run_starts_from_another_runs_tensors(dataset: Dataset, tmp_path: Path) -> None:
    trainer = Trainer(small_recipe(), dataset, tmp_path / "first")
    trainer.run()
    started = Trainer(
        small_recipe(init=str(tmp_path / "first" / "last"), seed=5), dataset, tmp_path / "second"
    )
    before, after = trainer.model.state_dict(), started.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    count = sum(p.numel() for p in started.model.parameters())
    assert started.start == f"{count:,} of {count:,} weights"
    started.run()
    metrics = json.loads((tmp_path / "second" / "last" / "metrics.json").read_text())
    assert (metrics["start"], trainer.start) == (started.start, "")
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        Trainer(small_recipe(init=str(tmp_path / "none")), dataset, tmp_path / "third")


class HeadStage(SceneStage):
    """Trains the head alone, on an optimizer of its own, and counts what it is asked."""

    prepared: ClassVar[list[tuple[str, str]]] = []

    def prepare(self, model: PersonSearchModel, device: torch.device, folder: Path) -> None:
        self.prepared.append((device.type, folder.name))

    def parameters(self, model: PersonSearchModel) -> list[torch.nn.Parameter]:
        return list(model.get_submodule("head").parameters())

    def set_mode(self, model: PersonSearchModel) -> None:
        model.eval()
        model.get_submodule("head").train()

    def make_optimizer(
        self, parameters: list[torch.nn.Parameter], biases: Iterable[torch.nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, 0.5)


def test_a_stage_says_what_it_trains_how_and_in_which_mode(
    dataset: Dataset, tmp_path: Path
) -> None:
    trainer = Trainer(small_recipe(iterations=2), dataset, tmp_path / "run")
    pictures = PictureCache(trainer.scenes, False)
    trainer.stages = [HeadStage(trainer.recipe, trainer.scenes, pictures)]
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.run()
    moved = {k for k, v in trainer.model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(name.startswith("head.") for name in moved)
    assert HeadStage.prepared == [("cpu", "run")]
    state = load_progress(tmp_path / "run" / "last").optimizer
    assert any(name.endswith(".exp_avg_sq") for name in state)
