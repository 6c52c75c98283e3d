"""The second step: which features, which batches, and that nothing else moves."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError, RecipeError
from personsearch.systems.inference import to_tensor
from personsearch.systems.sequential import Sequential
from personsearch.training.feature_cache import FeatureCache
from personsearch.training.feature_stage import FeatureStage, shots
from personsearch.training.loop import Trainer
from personsearch.training.recipe import Recipe, make_recipe
from personsearch.training.training_set import PictureCache
from personsearch.types import Scene

CPU = torch.device("cpu")
CLOTHES = np.array([[200, 40, 40], [40, 160, 60], [50, 70, 220], [230, 200, 40]], np.uint8)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    """Eight pictures of 96 x 64 with two people each, four identities and someone unknown."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    made = []
    for number in range(8):
        picture = rng.integers(100, 150, (64, 96, 3), dtype=np.uint8)
        boxes = np.array([[8, 10, 28, 54], [60, 8, 80, 52]], np.float32) + number % 3
        ids = np.array([number % 4, -1 if number == 5 else (number + 1) % 4])
        for (x1, y1, x2, y2), identity in zip(boxes.astype(int), ids, strict=True):
            picture[y1:y2, x1:x2] = CLOTHES[identity] if identity >= 0 else 20
        path = folder / f"{number}.png"
        Image.fromarray(picture).save(path)
        made.append(Scene(f"s{number}", path, (96, 64), boxes, ids))
    return made


def _recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {"system": "sequential", "backbone": "small", "backbone_width": 4}
    values |= {"iterations": 4, "semi_hard_iterations": 2, "lr": 0.01, "optimizer": "adam"}
    values |= {"min_size": 64, "max_size": 96, "region_size": [32, 16], "crop_size": [32, 16]}
    values |= {"pyramid_channels": 8, "head_depth": 1, "anchor_sizes": [24], "detection_lr": 0.01}
    values |= {"detection_iterations": 2, "images_per_iteration": 2, "loader_workers": 0}
    values |= {"batch_ids": 3, "batch_shots": 2, "precision": "float32", "schedule": "cosine"}
    values |= {"validation_fraction": 0.0, "log_every": 1, "checkpoint_every": 1}
    return make_recipe(values | changes)


def _stage(scenes: list[Scene], **changes: Any) -> tuple[FeatureStage, Sequential]:
    recipe = _recipe(**changes)
    torch.manual_seed(0)
    model = recipe.build(4)
    assert isinstance(model, Sequential)
    keywords = recipe.keywords(FeatureStage.__init__)
    return FeatureStage(recipe, scenes, PictureCache(scenes, True), **keywords), model


def _dataset(scenes: list[Scene]) -> Dataset:
    return Dataset("drawn", Path(), {"train": scenes})


@pytest.mark.parametrize("sharing", ["J2", "J3", "J4", "disjoint"])
def test_cached_features_are_those_computed_directly(
    scenes: list[Scene], tmp_path: Path, sharing: str
) -> None:
    stage, model = _stage(scenes, sharing=sharing)
    stage.prepare(model, CPU, tmp_path)
    cache = stage.cache
    assert cache is not None
    direct, ids = [], []
    model.eval()
    for index, scene in enumerate(scenes):
        image = to_tensor(stage.pictures[index])
        direct.append(model.features([image], [torch.from_numpy(scene.boxes[scene.ids >= 0])]))
        ids += [i for i in scene.ids.tolist() if i >= 0]
    assert cache.ids.tolist() == ids
    assert torch.equal(cache[range(len(ids))], torch.cat(direct))
    batch = next(stage.batches(0, 0, 1))
    both = stage.losses(model, batch.images, batch)["triplet"]
    whole = model.identity_losses(torch.stack(batch.images), batch.targets[0].ids, "semi-hard")
    assert both.item() == whole["triplet"].item()


@pytest.mark.parametrize("sharing", ["J2", "J4", "disjoint"])
def test_what_is_shared_stays_bit_for_bit(
    scenes: list[Scene], tmp_path: Path, sharing: str
) -> None:
    """Parameters and buffers of trunk, pyramid and head, weight decay or not."""
    recipe = _recipe(sharing=sharing, weight_decay=0.1, margin=2.0, iterations=3)
    trainer = Trainer(recipe, _dataset(scenes), tmp_path / "run")
    stages, trainer.stages = trainer.stages, trainer.stages[:1]
    trainer.run()
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.stages = stages
    trainer.run(resume=True)
    after = trainer.model.state_dict()
    moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert moved
    assert all(k.startswith("branch.") for k in moved)
    weights = {n for n, p in trainer.model.named_parameters() if n.startswith("branch.")}
    assert weights <= moved
    # Its batch normalisation follows the features; what detects keeps its statistics.
    assert any(k.endswith("running_mean") for k in moved)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert log.count('"detection"') == 2
    assert log.count('"features"') == 3


def test_a_run_that_is_resumed_ends_as_one_that_was_not(
    scenes: list[Scene], tmp_path: Path
) -> None:
    recipe = _recipe(feature_views=2, erase=0.3, color_jitter=0.2)
    whole = Trainer(recipe, _dataset(scenes), tmp_path / "whole").run()
    parts = tmp_path / "parts"
    for stop_at in (1, 2, 3):

        def stop(report: Any, at: int = stop_at) -> None:
            if report.stage == "features" and report.iteration == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Trainer(recipe, _dataset(scenes), parts, listener=stop).run(resume=True)
    end = Trainer(recipe, _dataset(scenes), parts).run(resume=True)
    a, b = load_file(whole / "model.safetensors"), load_file(end / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("sharing", ["J3", "disjoint"])
def test_one_detector_starts_every_way_of_sharing(
    scenes: list[Scene], tmp_path: Path, sharing: str
) -> None:
    """Trained once by a pair without its second step, it gives what a whole run gives."""
    whole = Trainer(_recipe(sharing=sharing), _dataset(scenes), tmp_path / "whole")
    whole.run()
    alone = {"sharing": "disjoint", "iterations": 0, "semi_hard_iterations": 0}
    detector = Trainer(_recipe(**alone), _dataset(scenes), tmp_path / "detector").run()
    later = {"sharing": sharing, "init": str(detector), "detection_iterations": 0}
    trainer = Trainer(_recipe(**later), _dataset(scenes), tmp_path / "later")
    trainer.run()
    expected = whole.model.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in trainer.model.state_dict().items())


def test_a_trunk_that_reidentification_trained(scenes: list[Scene], tmp_path: Path) -> None:
    """`weights` may be a pair's checkpoint, whose whole re-ID network starts the trunk."""
    alone = {"sharing": "disjoint", "detection_iterations": 0}
    reid = Trainer(_recipe(**alone), _dataset(scenes), tmp_path / "reid")
    run = reid.run()
    model = _recipe(weights=str(run), sharing="J3").build(4)
    assert isinstance(model, Sequential)
    trained = reid.model.state_dict()
    assert all(torch.equal(v, trained[f"branch.{k}"]) for k, v in model.trunk.state_dict().items())
    assert torch.equal(model.branch["C5"].conv1.weight, trained["branch.C5.conv1.weight"])  # type: ignore[union-attr]


def test_batches_are_identities_with_shots_and_depend_on_the_iteration_alone(
    scenes: list[Scene], tmp_path: Path
) -> None:
    stage, model = _stage(scenes)
    stage.prepare(model, CPU, tmp_path)
    batches = []
    for iteration, batch in enumerate(stage.batches(0, 0, 1)):
        ids = batch.targets[0].ids
        assert len(batch.images) == len(ids) == 6
        assert sorted(ids.unique(return_counts=True)[1].tolist()) == [2, 2, 2]
        assert stage.mining == ("semi-hard" if iteration < 2 else "batch-hard")
        batches.append(batch)
    assert len(batches) == 4
    later = list(stage.batches(2, 0, 1))
    for one, again in zip(batches[2:], later, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.images, again.images, strict=True))
    for world in (2, 4):  # also unequal shares
        shares = [next(stage.batches(0, rank, world)) for rank in range(world)]
        assert torch.cat([share.targets[0].ids for share in shares]).equal(
            batches[0].targets[0].ids
        )
        joined = [image for share in shares for image in share.images]
        assert all(torch.equal(a, b) for a, b in zip(joined, batches[0].images, strict=True))
    with pytest.raises(RecipeError, match=r"has 6 rows, .* each of 7 processes; raise batch_ids"):
        next(stage.batches(0, 0, 7))


def test_fewer_identities_and_shots_than_a_batch_wants(scenes: list[Scene], tmp_path: Path) -> None:
    stage, model = _stage(scenes, batch_ids=32, batch_shots=9)
    stage.prepare(model, CPU, tmp_path)
    batch = next(stage.batches(0, 0, 1))
    assert len(batch.images) == 15  # everyone labelled, once
    assert sorted(batch.targets[0].ids.unique().tolist()) == [0, 1, 2, 3]
    stage.losses(model, batch.images, batch)["triplet"].backward()


def test_one_identity_or_nobody_labelled_is_an_error(scenes: list[Scene], tmp_path: Path) -> None:
    def named(identity: int) -> list[Scene]:
        return [
            Scene(s.name, s.path, s.size, s.boxes, np.full_like(s.ids, identity)) for s in scenes
        ]

    stage, model = _stage(named(0))
    with pytest.raises(DataError, match="one labelled identity; triplets need two"):
        stage.prepare(model, CPU, tmp_path / "one")
    stage, model = _stage(named(-1))
    with pytest.raises(DataError, match="no labelled people"):
        stage.prepare(model, CPU, tmp_path / "none")


def test_shots_are_of_different_pictures_first() -> None:
    scenes = np.array([5, 5, 5, 6, 6, 7])
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert sorted(scenes[shots(range(6), scenes, 3, rng)].tolist()) == [5, 6, 7]
        assert sorted(scenes[shots(range(6), scenes, 5, rng)].tolist()) == [5, 5, 6, 6, 7]
        assert sorted(shots(range(6), scenes, 9, rng)) == list(range(6))
        assert len(set(shots([0, 1, 2], scenes, 2, rng))) == 2
    picked = {tuple(shots(range(6), scenes, 3, rng)) for _ in range(50)}
    assert len(picked) > 5


def test_views_are_augmented_but_the_first(scenes: list[Scene], tmp_path: Path) -> None:
    plain, model = _stage(scenes, flip=0.0)
    plain.prepare(model, CPU, tmp_path / "plain")
    stage, _ = _stage(scenes, flip=0.0, feature_views=3, feature_jitter=0.1)
    stage.prepare(model, CPU, tmp_path / "views")
    assert plain.cache is not None
    assert stage.cache is not None
    count = len(plain.cache)
    assert len(stage.cache) == 3 * count
    assert stage.cache.ids.tolist() == plain.cache.ids.tolist() * 3
    views = stage.cache[range(3 * count)].split(count)
    assert torch.equal(views[0], plain.cache[range(count)])
    assert not torch.equal(views[1], views[0])
    assert not torch.equal(views[2], views[1])
    still, _ = _stage(scenes, flip=0.0, feature_views=2, feature_jitter=0.0)
    still.prepare(model, CPU, tmp_path / "still")
    assert still.cache is not None
    assert torch.equal(still.cache[range(count, 2 * count)], views[0])


def test_the_fingerprint_tells_what_the_features_depend_on(scenes: list[Scene]) -> None:
    stage, model = _stage(scenes)
    mark = stage.fingerprint(model)
    assert mark == stage.fingerprint(model)
    same, _ = _stage(scenes, lr=0.5, batch_ids=2, seed=3, erase=0.5, margin=0.1)
    assert same.fingerprint(model) == mark
    for changes in (
        {"sharing": "J2"},
        {"region_size": [64, 16]},
        {"region_pooling": "align"},
        {"min_size": 48},
        {"feature_views": 2},
        {"precision": "bfloat16"},
    ):
        other, changed = _stage(scenes, **changes)
        assert other.fingerprint(changed) != mark, changes
    moved = [Scene(s.name, s.path, s.size, s.boxes + 1, s.ids) for s in scenes]
    assert _stage(moved)[0].fingerprint(model) != mark
    with torch.no_grad():
        model.branch["C5"].conv1.weight += 1  # type: ignore[union-attr, operator]
        model.trunk["C5"].conv1.weight += 1  # type: ignore[union-attr, operator]
    assert stage.fingerprint(model) == mark
    model.trunk["C1"].bn1.running_mean += 1e-6  # type: ignore[union-attr, operator]
    assert stage.fingerprint(model) != mark


def test_features_of_another_detector_are_made_anew_or_refused(
    scenes: list[Scene], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage, model = _stage(scenes)
    stage.prepare(model, CPU, tmp_path)
    file = tmp_path / "features" / "people.safetensors"
    written = file.stat().st_mtime_ns
    stage.prepare(model, CPU, tmp_path)
    assert file.stat().st_mtime_ns == written
    with torch.no_grad():
        model.trunk["C2"].conv1.weight += 0.1  # type: ignore[union-attr, operator]
    shared, _ = _stage(scenes, feature_cache=str(tmp_path / "features"))
    with pytest.raises(
        RecipeError, match=r"feature_cache: .*made with another detector.*delete it"
    ):
        shared.prepare(model, CPU, tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        stage.prepare(model, CPU, tmp_path)
    assert "made with another detector" in caplog.text
    assert "they are made anew" in caplog.text
    shared.prepare(model, CPU, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    FeatureCache(tmp_path / "features", stage.fingerprint(model))
    shutil.rmtree(tmp_path / "features")
    shared.prepare(model, CPU, tmp_path / "elsewhere")
    assert file.is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_ids": 1}, "triplets need 2 identities"),
        ({"batch_shots": 1}, "triplets need 2 identities"),
        ({"feature_views": 0}, "1 view or more"),
        ({"semi_hard_iterations": 5}, "no more semi-hard iterations"),
        ({"feature_jitter": -0.1}, "feature_jitter: Input should be greater"),
    ],
)
def test_impossible_settings(scenes: list[Scene], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _stage(scenes, **changes)


def test_another_system_has_no_features(scenes: list[Scene]) -> None:
    stage, _ = _stage(scenes)
    other = make_recipe(
        {"system": "oim", "iterations": 1, "lr": 1.0, "backbone": "small", "backbone_width": 4}
    ).build(4)
    with pytest.raises(RecipeError, match="'features' cannot train OIM, which is not a Sequential"):
        stage.check(other)
