"""The re-ID network's own stage: crops by the ROI transform, batches of identities with shots."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from personsearch.datasets.dataset import Dataset
from personsearch.errors import DataError, RecipeError
from personsearch.training.loop import Trainer, read_log
from personsearch.training.recipe import Recipe, make_recipe
from personsearch.training.reid_stage import PersonCrops, PersonSampler, ReidStage
from personsearch.training.training_set import PictureCache
from personsearch.training.transforms import Augmentation
from personsearch.types import Scene

BOXES = ([8, 10, 24, 50], [60, 12, 76, 52], [30, 8, 46, 48])


def _recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {"system": "rdlr", "iterations": 0, "lr": 0.01, "backbone": "small"}
    values |= {"backbone_width": 16, "crop_size": [64, 32], "precision": "bfloat16"}
    values |= {"loader_workers": 0, "validation_fraction": 0.0, "reid_iterations": 4}
    values |= {"images_per_iteration": 2, "log_every": 1}
    return make_recipe(values | {"reid_lr": 0.003, "reid_optimizer": "adamw"} | changes)


def _scenes(folder: Path) -> list[Scene]:
    rng = np.random.default_rng(0)
    scenes = []
    for number in range(6):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(path)
        ids = np.array([number % 3, (number + 1) % 3, -1])
        scenes.append(Scene(f"s{number}", path, (96, 64), np.array(BOXES, np.float32), ids))
    return scenes


def _crops(scenes: list[Scene], **changes: Any) -> PersonCrops:
    augmentation = changes.pop("augmentation", Augmentation())
    settings = {"size": (40, 16), "padding": 0, "jitter": 0.0} | changes
    return PersonCrops(scenes, PictureCache(scenes, False), augmentation, 0, **settings)


def test_a_crop_is_what_the_box_shows(tmp_path: Path) -> None:
    scenes = _scenes(tmp_path)
    crops = _crops(scenes)
    assert len(crops.people) == 12
    for row in (0, 1, 7):
        index, person = crops.people[row]
        crop, target, name = crops[(0, 0, row)]
        x1, y1, x2, y2 = scenes[index].boxes[person].astype(int)
        picture = cv2.cvtColor(cv2.imread(str(scenes[index].path)), cv2.COLOR_BGR2RGB)
        expected = torch.from_numpy(picture[y1:y2, x1:x2]).permute(2, 0, 1) / 255
        torch.testing.assert_close(crop, expected, atol=1e-5, rtol=0)
        assert target.ids.tolist() == [scenes[index].ids[person]]
        assert target.boxes.tolist() == [[0, 0, 16, 40]]
        assert name == scenes[index].name


def test_padding_moves_a_crop_by_whole_pixels_with_a_black_border(tmp_path: Path) -> None:
    scenes = _scenes(tmp_path)
    plain, moved = _crops(scenes)[(0, 0, 2)][0], set()
    for iteration in range(20):
        crop = _crops(scenes, padding=2)[(iteration, 0, 2)][0]
        padded = torch.nn.functional.pad(plain, (2, 2, 2, 2))
        places = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.allclose(padded[:, y : y + 40, x : x + 16], crop, atol=1e-5)
        ]
        assert len(places) == 1
        moved.add(places[0])
    assert len(moved) > 5


def test_augmentation_depends_on_iteration_and_place_alone(tmp_path: Path) -> None:
    crops = _crops(_scenes(tmp_path), augmentation=Augmentation(0.5, 0, 0.2, 0.5), jitter=0.1)
    first, again = crops[(3, 1, 4)][0], crops[(3, 1, 4)][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, crops[(4, 1, 4)][0])
    assert not torch.equal(first, crops[(3, 2, 4)][0])


def test_batches_are_identities_with_shots(tmp_path: Path) -> None:
    crops = _crops(_scenes(tmp_path))
    sampler = PersonSampler(crops, 2, 6, 0)
    seen = set()
    for iteration in range(10):
        chosen = sampler.batch(iteration)
        assert chosen == sampler.batch(iteration)
        ids = crops.ids[chosen].reshape(2, 6)
        assert (ids == ids[:, :1]).all()
        assert ids[0, 0] != ids[1, 0]
        # Each has four crops: two are repeated.
        assert all(len(set(rows)) == 4 for rows in np.array(chosen).reshape(2, 6).tolist())
        seen.update(ids[:, 0].tolist())
    assert seen == {0, 1, 2}
    assert PersonSampler(crops, 16, 4, 0).batch_size == 12


@pytest.mark.parametrize("stride", [1, 2])
def test_equal_seeds_give_equal_bytes(tmp_path: Path, stride: int) -> None:
    """In mixed precision, too, where 64 x 32 crops end with one or two columns."""
    dataset = Dataset("drawn", tmp_path, {"train": _scenes(tmp_path)}, {})
    runs = []
    for name in ("one", "two"):
        trainer = Trainer(_recipe(reid_last_stride=stride), dataset, tmp_path / name)
        assert [stage.name for stage in trainer.stages] == ["re-identification"]
        junk = [torch.full((500, 500), torch.nan) for _ in range(10)]
        del junk
        trainer.run()
        runs.append((trainer.model.state_dict(), read_log(tmp_path / name / "log.jsonl")))
    (first, log), (second, other) = runs
    assert [line["losses"] for line in log] == [line["losses"] for line in other]
    assert log[0]["losses"].keys() == {"softmax", "triplet"}
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_schedule_is_the_strong_baseline_s(tmp_path: Path) -> None:
    scenes = _scenes(tmp_path)

    def stage(**changes: Any) -> ReidStage:
        recipe = _recipe(reid_iterations=100, reid_warmup=10, reid_lr=1.0, **changes)
        keywords = recipe.keywords(ReidStage.__init__)
        return ReidStage(recipe, scenes, PictureCache(scenes, False), **keywords)

    steps = stage(reid_decay_at=[40, 70])
    assert [round(steps.learning_rate(i), 6) for i in (0, 9, 39, 40, 70)] == [
        *(0.1, 1.0, 1.0, 0.1, 0.01)
    ]
    assert stage().learning_rate(99) == pytest.approx(0.1, abs=1e-3)
    bias = torch.nn.Parameter(torch.zeros(1))
    adam = stage(reid_optimizer="adam", bias_lr_factor=2.0).make_optimizer([bias], [bias])
    assert isinstance(adam, torch.optim.Adam)
    assert adam.param_groups[0]["params"] == [bias]
    assert adam.param_groups[0]["weight_decay"] == 5e-4


def test_wrong_settings_are_explained(tmp_path: Path) -> None:
    scenes = _scenes(tmp_path)
    pictures = PictureCache(scenes, False)
    with pytest.raises(RecipeError, match="reid_warmup 9"):
        ReidStage(_recipe(), scenes, pictures, reid_iterations=4, reid_warmup=9)
    with pytest.raises(RecipeError, match="reid_batch_shots 1; triplets need"):
        ReidStage(_recipe(), scenes, pictures, reid_batch_shots=1)
    nobody = [Scene(s.name, s.path, s.size, s.boxes, np.full_like(s.ids, -1)) for s in scenes]
    with pytest.raises(DataError, match="fewer than two labelled identities"):
        ReidStage(_recipe(), nobody, pictures, reid_iterations=1)
    assert ReidStage(_recipe(), nobody, pictures, reid_iterations=0).iterations == 0
