"""The first stage of Xiao 2016: what a batch holds, what is trained, at which rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from staged import draw_scenes

from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError, RecipeError
from personsearch.training.crop_classifier import CropClassifierStage
from personsearch.training.loop import Trainer, read_log
from personsearch.training.recipe import Recipe, make_recipe
from personsearch.training.training_set import Batch, PictureCache
from personsearch.types import BACKGROUND, Scene

STAGE: dict[str, Any] = {
    "classifier_iterations": 6,
    "classifier_batch": 8,
    "classifier_size": [48, 24],
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    return draw_scenes(tmp_path_factory.mktemp("pictures"))


def _recipe(**changes: Any) -> Recipe:
    values = {"system": "xiao2016", "iterations": 0, "lr": 0.05, "backbone": "small"}
    values |= {"backbone_width": 4, "embedding_dim": 8, "dropout": 0.0, "embedding_grid": [2, 1]}
    values |= {"roi_size": [4, 2], "min_size": 64, "max_size": 96, "loader_workers": 0}
    values |= {"images_per_iteration": 2, "validation_fraction": 0.0, "log_every": 1}
    return make_recipe(values | STAGE | changes)


def _stage(scenes: Sequence[Scene], **changes: Any) -> CropClassifierStage:
    recipe = _recipe(**changes)
    return CropClassifierStage(
        recipe,
        scenes,
        PictureCache(scenes, True),
        **recipe.keywords(CropClassifierStage.__init__),
    )


def _same(a: Batch, b: Batch) -> bool:
    return a.names == b.names and all(
        torch.equal(x, y) for x, y in zip(a.images, b.images, strict=True)
    )


def test_half_of_a_batch_are_labelled_people(scenes: list[Scene]) -> None:
    batches = list(_stage(scenes).batches(0, 0, 1))
    assert len(batches) == 6
    for batch in batches:
        ids = torch.cat([target.ids for target in batch.targets])
        assert all(image.shape == (3, 48, 24) for image in batch.images)
        assert (ids == BACKGROUND).sum() == 4
        assert (ids[ids != BACKGROUND] >= 0).all()


def test_passes_share_a_batch(scenes: list[Scene]) -> None:
    stage = _stage(scenes, classifier_accumulate=2)
    batches = list(stage.batches(0, 0, 1))
    assert stage.accumulate == 2
    assert [len(b.images) for b in batches] == [4] * 12
    assert _same(next(stage.batches(5, 0, 1)), batches[10])


def test_processes_share_a_batch_and_both_get_people(scenes: list[Scene]) -> None:
    whole = next(_stage(scenes).batches(2, 0, 1))
    parts = [next(_stage(scenes).batches(2, rank, 2)) for rank in (0, 1)]
    assert [len(part.images) for part in parts] == [4, 4]
    for place, image in enumerate(parts[0].images + parts[1].images):
        assert torch.equal(image, whole.images[place])
    assert all((torch.cat([t.ids for t in p.targets]) >= 0).sum() == 2 for p in parts)
    with pytest.raises(RecipeError, match="a batch has 8 pictures, expected a multiple of 3 for 3"):
        _stage(scenes).batches(0, 0, 3)


def test_the_rate_falls_to_a_tenth(scenes: list[Scene]) -> None:
    """By a step after two thirds, or after a warm-up as half a cosine."""
    settings: dict[str, Any] = {"classifier_iterations": 100, "classifier_lr": 0.5}
    stage = _stage(scenes, schedule="step", decay_at=[10], **settings)
    assert [stage.learning_rate(k) for k in (0, 66, 67, 99)] == [0.5, 0.5, 0.05, 0.05]
    stage = _stage(scenes, schedule="cosine", **settings)
    expected = [0.05, 0.5, 0.275, 0.05]
    assert [stage.learning_rate(k) for k in (0, 10, 55, 100)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier_iterations": -1}, "classifier_iterations: Input should be greater"),
        ({"classifier_lr": 0.0}, r"classifier_lr 0\.0"),
        ({"classifier_batch": 10, "classifier_accumulate": 2}, "a multiple of twice the passes"),
        ({"classifier_accumulate": 0}, "classifier_accumulate 0"),
    ],
)
def test_settings_that_cannot_be(
    scenes: list[Scene], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        _stage(scenes, **changes)


def test_nobody_labelled_is_an_error(scenes: list[Scene]) -> None:
    nobody = [Scene(s.name, s.path, s.size, s.boxes, np.full(2, -1)) for s in scenes]
    with pytest.raises(DataError, match="no labelled people"):
        _stage(nobody)


def test_a_system_without_such_a_classifier_is_named(scenes: list[Scene]) -> None:
    model = make_recipe({"system": "oim", "iterations": 1, "lr": 0.1, "backbone": "small"}).build(3)
    with pytest.raises(RecipeError, match="'crop classifier' cannot train OIM"):
        _stage(scenes).check(model)


def test_it_learns_and_leaves_the_detector_alone(scenes: list[Scene], tmp_path: Path) -> None:
    recipe = _recipe(classifier_iterations=40, classifier_lr=0.01, optimizer="adamw")
    trainer = Trainer(recipe, Dataset("made", tmp_path, {"train": scenes}), tmp_path / "run")
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.run()
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert {line["stage"] for line in log} == {"crop classifier"}
    losses = [line["losses"]["softmax"] for line in log]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    for name, value in trainer.model.state_dict().items():
        detects = name.startswith(("proposals.", "box_predictor."))
        assert torch.equal(value, before[name]) is detects, name


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    scenes: list[Scene], tmp_path: Path
) -> None:
    dataset = Dataset("made", tmp_path, {"train": scenes})
    whole = Trainer(_recipe(checkpoint_every=3), dataset, tmp_path / "a")
    whole.run()

    def stop(report: Any) -> None:
        if report.iteration == 4:
            raise KeyboardInterrupt

    stopped = Trainer(_recipe(checkpoint_every=3), dataset, tmp_path / "b", listener=stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    again = Trainer(_recipe(checkpoint_every=3), dataset, tmp_path / "b")
    again.run(resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
