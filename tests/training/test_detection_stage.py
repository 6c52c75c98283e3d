"""The first step: which pictures it sees, what it trains, at which rate."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from personsearch.datasets import scenes as scenes_format
from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError, RecipeError
from personsearch.systems.sequential import Sequential
from personsearch.training.detection_stage import DetectionStage, more_scenes
from personsearch.training.recipe import Recipe, make_recipe
from personsearch.training.stages import make_stages
from personsearch.training.training_set import PictureCache
from personsearch.types import Scene


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _scenes(folder: Path, count: int, start: int = 0) -> list[Scene]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(start)
    made = []
    for number in range(start, start + count):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(path)
        boxes = np.array([[8, 10, 28, 54], [60, 8, 80, 52]], np.float32)
        ids = np.array([number % 2, (number + 1) % 2])
        made.append(Scene(f"s{number}", path, (96, 64), boxes, ids))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets of three formats beside each other: ours, COCO style without identities, MOT."""
    root = tmp_path_factory.mktemp("sets")
    ours = _scenes(root / "made", 3, 10)
    splits = {"train": ours[:2], "test": ours[2:]}
    scenes_format.write(Dataset("ours", root, splits), root / "ours")
    tattoos = Dataset("tattoos", root, {"train": ours}, object_class="tattoo")
    scenes_format.write(tattoos, root / "tattoos")
    coco = _scenes(root / "coco", 2, 20)
    table = {
        "images": [
            {"id": k, "file_name": s.path.name, "width": 96, "height": 64}
            for k, s in enumerate(coco)
        ],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 10, 20, 40]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [20, 10, 20, 40]},
        ],
    }
    (root / "coco" / "instances.json").write_text(json.dumps(table))
    frames = _scenes(root / "mot" / "img1", 2, 1)
    for scene in frames:
        scene.path.rename(scene.path.with_name(f"{int(scene.path.stem):06}.png"))
    (root / "mot" / "gt").mkdir()
    (root / "mot" / "gt" / "gt.txt").write_text("1,7,10,10,20,40,1,1,1\n2,7,12,10,20,40,1,1,1\n")
    return root


def _recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {"system": "sequential", "backbone": "small", "backbone_width": 4}
    values |= {"iterations": 0, "lr": 0.01, "loader_workers": 0, "images_per_iteration": 2}
    values |= {"min_size": 64, "max_size": 96, "region_size": [32, 16], "pyramid_channels": 8}
    values |= {"head_depth": 1, "anchor_sizes": [24, 30, 40], "detection_iterations": 10}
    return make_recipe(values | changes)


def _stage(scenes: list[Scene], **changes: Any) -> DetectionStage:
    recipe = _recipe(**changes)
    keywords = recipe.keywords(DetectionStage.__init__)
    return DetectionStage(recipe, scenes, PictureCache(scenes, False), **keywords)


def test_sets_of_different_formats_are_aggregated(folder: Path, tmp_path: Path) -> None:
    scenes = _scenes(tmp_path, 3)
    more = [str(folder / name) for name in ("ours", "coco", "mot")]
    stage = _stage(scenes, detection_data=more, flip=0.0, detection_iterations=9)
    seen: dict[str, list[int]] = {}
    for batch in stage.batches(0, 0, 1):
        assert len(batch.images) == 2
        for name, target in zip(batch.names, batch.targets, strict=True):
            seen.setdefault(name, []).append(len(target.boxes))
            # Identities of the training set stay; those of other sets mean nothing here.
            assert (target.ids >= 0).all() if name in {"s0", "s1", "s2"} else (target.ids < 0).all()
    # Of `ours` the training split alone; of the others all there is. Nine pictures, two epochs.
    assert len(seen) == 9
    assert {len(v) for v in seen.values()} == {2}
    assert sorted(v[0] for v in seen.values()) == [1, 1, 1, 1, 2, 2, 2, 2, 2]


def test_without_further_sets_the_pictures_are_shared(tmp_path: Path) -> None:
    scenes = _scenes(tmp_path, 3)
    pictures = PictureCache(scenes, True)
    recipe = _recipe()
    stage = DetectionStage(recipe, scenes, pictures, **recipe.keywords(DetectionStage.__init__))
    assert stage.training_set.pictures is pictures


def test_another_object_class_is_an_error(folder: Path, tmp_path: Path) -> None:
    scenes = _scenes(tmp_path, 2)
    data = [str(folder / "tattoos")]
    message = r"hold 'tattoo', the recipe's object_class is 'person'"
    with pytest.raises(RecipeError, match=message):
        _stage(scenes, detection_data=data)
    assert len(more_scenes(data, "tattoo")) == 3
    # A stage that is left out reads nothing.
    _stage(scenes, detection_data=data, detection_iterations=0)
    with pytest.raises(DataError, match="no such data set"):
        _stage(scenes, detection_data=[str(folder / "nowhere")])


def test_trains_the_detector_alone(tmp_path: Path) -> None:
    scenes = _scenes(tmp_path, 4)
    stage = _stage(scenes, detection_lr=0.01)
    model = _recipe().build(2)
    assert isinstance(model, Sequential)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = stage.make_optimizer(stage.parameters(model))
    stage.set_mode(model)
    batch = next(stage.batches(0, 0, 1)).to(torch.device("cpu"))
    losses = stage.losses(model, batch.images, batch)
    assert losses.keys() == {"focal", "box"}
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert not any(k.startswith("branch.") for k in moved)
    assert {n for n, _ in model.named_parameters() if not n.startswith("branch.")} <= moved


def test_optimizers() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2))]
    for kind, expected in (("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)):
        scene = Scene("a", Path("a"), (9, 9), np.zeros((0, 4)), np.zeros(0, np.int64))
        stage = _stage([scene, replace(scene, name="b")], detection_optimizer=kind, momentum=0.7)
        made = stage.make_optimizer(weights)
        assert type(made) is expected
        assert made.defaults["weight_decay"] == 1e-4
        assert made.defaults.get("momentum", 0.7) == 0.7


def test_the_rate_warms_up_and_falls_along_half_a_cosine(tmp_path: Path) -> None:
    scenes = _scenes(tmp_path, 2)
    stage = _stage(scenes, detection_lr=2.0, detection_warmup=2, detection_schedule="cosine")
    rates = [stage.learning_rate(k) for k in range(stage.iterations)]
    cosines = [1.0 + math.cos(math.pi * k / 8) for k in range(8)]
    assert rates == pytest.approx([1.0, 2.0, *cosines])
    # TensorFlow's linear_cosine_decay of 8 steps with num_periods 0.5, alpha 0 and beta 0.001.
    stage = _stage(scenes, detection_lr=2.0, detection_warmup=2)
    rates = [stage.learning_rate(k) for k in range(stage.iterations)]
    expected = [(8 - k) / 8 * cosine + 0.002 for k, cosine in enumerate(cosines)]
    assert rates == pytest.approx([1.0, 2.0, *expected])


def test_steps_are_detectron_s(tmp_path: Path) -> None:
    """A tenth after 2/3 and after 8/9 of all iterations, those of the warm-up included."""
    changes = {"detection_lr": 2.0, "detection_warmup": 2, "detection_schedule": "step"}
    stage = _stage(_scenes(tmp_path, 2), detection_iterations=9, **changes)
    rates = [stage.learning_rate(k) for k in range(9)]
    assert rates == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.2, 0.2, 0.02])


def test_both_steps_are_stages_of_a_run(tmp_path: Path) -> None:
    scenes = _scenes(tmp_path, 2)
    assert [s.name for s in make_stages(_recipe(), scenes)] == ["detection"]
    both = make_stages(_recipe(iterations=3, accumulate=2), scenes)
    assert [(s.name, s.iterations, s.accumulate) for s in both] == [
        ("detection", 10, 2),
        ("features", 3, 1),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detection_warmup": 11}, "detection_warmup 11 is longer than detection_iterations 10"),
        ({"detection_iterations": -1}, "detection_iterations: Input should be greater"),
        ({"detection_lr": 0.0}, "expected a rate above 0"),
        ({"detection_weight_decay": -1.0}, "detection_weight_decay: Input should be greater"),
    ],
)
def test_impossible_settings(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _stage(_scenes(tmp_path, 2), **changes)


def test_another_system_is_named(tmp_path: Path) -> None:
    other = make_recipe(
        {"system": "oim", "iterations": 1, "lr": 1.0, "backbone": "small", "backbone_width": 4}
    ).build(2)
    with pytest.raises(RecipeError, match="'detection' cannot train OIM, which is not a Det"):
        _stage(_scenes(tmp_path, 2)).check(other)
