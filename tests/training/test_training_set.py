"""Training pictures: the same bytes however they are loaded, with the right people."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from personsearch.errors import PictureError
from personsearch.systems.inference import to_pixels, to_tensor
from personsearch.training.samplers import RandomSampler
from personsearch.training.training_set import (
    Batch,
    PictureCache,
    TrainingSet,
    load_batches,
)
from personsearch.training.transforms import MEAN_COLOR, Augmentation
from personsearch.types import Scene

EVERYTHING = Augmentation(0.5, 0.3, 0.3, 0.5)


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    rng, made = np.random.default_rng(0), []
    for k in range(5):
        path = tmp_path / f"{k}.png"
        Image.fromarray(rng.integers(0, 256, (40, 50 + k, 3)).astype(np.uint8)).save(path)
        boxes = np.array([[1, 2, 20, 30], [25, 5, 45, 39]], dtype=np.float32)
        made.append(Scene(f"scene {k}", path, (50 + k, 40), boxes, np.array([k, -1])))
    return made


def _load(
    scenes: list[Scene], start: int, stop: int, workers: int, rank: int = 0, world: int = 1
) -> list[Batch]:
    training_set = TrainingSet(scenes, PictureCache(scenes, keep=False), EVERYTHING, seed=3)
    sampler = RandomSampler(scenes, 4, seed=3)
    return list(load_batches(training_set, sampler, start, stop, workers, rank, world))


def _assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert [b.names for b in first] == [b.names for b in second]
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.images, b.images, strict=True))
        for x, y in zip(a.targets, b.targets, strict=True):
            assert torch.equal(x.boxes, y.boxes)
            assert torch.equal(x.ids, y.ids)


def test_to_tensor() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    tensor = to_tensor(picture)
    assert tensor.shape == (3, 2, 4)
    assert tensor.dtype == torch.float32
    assert tensor[1, 1, 2].item() == pytest.approx(picture[1, 2, 1] / 255)


def test_bytes_become_numbers_on_the_device(scenes: list[Scene]) -> None:
    (batch,) = _load(scenes, 0, 1, workers=0)
    moved = batch.to(torch.device("cpu"))
    assert moved.names == batch.names
    for image, pixels in zip(moved.images, batch.images, strict=True):
        assert pixels.dtype == torch.uint8
        assert torch.equal(image, pixels.float() / 255)
    again = moved.to(torch.device("cpu"))
    assert all(torch.equal(x, y) for x, y in zip(again.images, moved.images, strict=True))


def test_the_cache_keeps_only_if_asked(scenes: list[Scene]) -> None:
    kept, passing = PictureCache(scenes, keep=True), PictureCache(scenes, keep=False)
    first = kept[0]
    np.testing.assert_array_equal(first, passing[0])
    scenes[0].path.unlink()
    assert kept[0] is first
    with pytest.raises(PictureError):
        passing[0]


def test_ignored_regions_are_covered_but_for_people(scenes: list[Scene]) -> None:
    plain = PictureCache(scenes, keep=True)
    regions = np.array([[10, 20, 30, 40]], np.float32)
    training_set = TrainingSet([replace(scenes[0], ignored=regions)], plain, Augmentation(), seed=0)
    image, target, _ = training_set[(0, 0, 0)]
    picture = image.permute(1, 2, 0).numpy()
    for (row, column), covered in {
        (39, 20): True,  # in the region
        (25, 15): False,  # in the region and in the first person's box
        (25, 27): False,  # in the second's
        (10, 20): False,  # outside
    }.items():
        same = (picture[row, column] == plain[0][row, column]).all()
        assert same != covered
        assert (picture[row, column] == MEAN_COLOR).all() == covered
    assert len(target.boxes) == 2


def test_without_augmentation_a_scene_comes_as_it_is(scenes: list[Scene]) -> None:
    pictures = PictureCache(scenes, keep=False)
    image, target, name = TrainingSet(scenes, pictures, Augmentation(), 0)[0, 0, 2]
    assert name == "scene 2"
    assert torch.equal(image, to_pixels(pictures[2]))
    assert torch.equal(target.boxes, torch.from_numpy(scenes[2].boxes))
    assert target.ids.tolist() == [2, -1]


def test_who_leaves_the_picture_leaves_the_target(scenes: list[Scene]) -> None:
    scene = scenes[0]
    edge = np.array([[0, 0, 4, 4], [20, 10, 30, 30]], dtype=np.float32)
    moved = Scene(scene.name, scene.path, scene.size, edge, np.array([7, 9]))
    jitter = Augmentation(scale_jitter=0.5)
    training_set = TrainingSet([moved], PictureCache([moved], keep=True), jitter, 0)
    seen = set()
    for iteration in range(40):
        _, target, _ = training_set[iteration, 0, 0]
        assert len(target.boxes) == len(target.ids)
        seen.add(tuple(target.ids.tolist()))
    assert {(7, 9), (9,)} <= seen


def test_a_slot_depends_on_seed_iteration_and_place(scenes: list[Scene]) -> None:
    training_set = TrainingSet(scenes, PictureCache(scenes, keep=True), EVERYTHING, seed=1)
    image = training_set[5, 1, 0][0]
    training_set[6, 0, 3]
    assert torch.equal(training_set[5, 1, 0][0], image)
    assert not torch.equal(training_set[5, 2, 0][0], image)
    assert not torch.equal(training_set[6, 1, 0][0], image)
    other = TrainingSet(scenes, PictureCache(scenes, keep=True), EVERYTHING, seed=2)
    assert not torch.equal(other[5, 1, 0][0], image)


def test_the_same_bytes_from_any_number_of_processes(scenes: list[Scene]) -> None:
    _assert_same(_load(scenes, 0, 4, workers=0), _load(scenes, 0, 4, workers=2))


def test_a_run_goes_on_where_it_was(scenes: list[Scene]) -> None:
    _assert_same(_load(scenes, 0, 6, workers=0)[3:], _load(scenes, 3, 6, workers=0))


def test_the_network_draws_the_same_however_pictures_are_loaded(scenes: list[Scene]) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    _load(scenes, 0, 2, workers=0)
    assert torch.equal(torch.rand(3), expected)


def test_processes_share_a_batch_in_rank_order(scenes: list[Scene]) -> None:
    shares = [_load(scenes, 0, 3, 0, rank, world=2) for rank in range(2)]
    joined = [
        Batch(a.images + b.images, a.targets + b.targets, a.names + b.names)
        for a, b in zip(*shares, strict=True)
    ]
    _assert_same(_load(scenes, 0, 3, 0), joined)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named(scenes: list[Scene], workers: int) -> None:
    scenes[2].path.write_bytes(b"")
    with pytest.raises(PictureError, match=r"2\.png: is empty") as caught:
        _load(scenes, 0, 3, workers)
    assert "Traceback" not in str(caught.value)
