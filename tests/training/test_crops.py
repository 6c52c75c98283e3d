"""Crops: a person's crop shows the person, a piece of background shows nobody."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sampled import batches

from personsearch.boxes import intersection, iou
from personsearch.errors import DataError
from personsearch.training.crops import Crops, CropSampler
from personsearch.training.samplers import generator
from personsearch.training.training_set import PictureCache
from personsearch.training.transforms import Augmentation
from personsearch.types import BACKGROUND, Scene

SIZE = (40, 24)


def _color(identity: int) -> np.ndarray:
    return np.array([40 * identity, 255 - 40 * identity, 255 * (identity % 2)], dtype=np.uint8)


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    """Six identities in a color each on grey; some at the border, one unlabelled and black."""
    made = []
    for k in range(6):
        pixels = np.full((100, 140, 3), 128, dtype=np.uint8)
        boxes = [[0, 10, 22, 60], [60, 46, 84, 96], [118, 0, 140, 40]]
        ids = [k, (k + 1) % 6, -1]
        for (x1, y1, x2, y2), identity in zip(boxes, ids, strict=True):
            pixels[y1:y2, x1:x2] = _color(identity) if identity >= 0 else 0
        path = tmp_path / f"{k}.png"
        Image.fromarray(pixels).save(path)
        made.append(Scene(path.name, path, (140, 100), np.array(boxes), np.array(ids)))  # type: ignore[arg-type]
    return made


def _crops(scenes: list[Scene], seed: int = 0, **changes: Any) -> Crops:
    augmentation = changes.pop("augmentation", Augmentation())
    return Crops(scenes, PictureCache(scenes, keep=True), augmentation, seed, SIZE, **changes)


def _pixels(image: torch.Tensor) -> np.ndarray:
    return image.numpy().transpose(1, 2, 0)


def test_everyone_labelled_is_listed(scenes: list[Scene]) -> None:
    assert _crops(scenes).people == [(scene, row) for scene in range(6) for row in (0, 1)]


def test_a_crop_is_the_box_and_nothing_else(scenes: list[Scene]) -> None:
    crops = _crops(scenes)
    for whom, (scene, row) in enumerate(crops.people):
        image, target, name = crops[(0, whom, whom)]
        assert image.shape == (3, *SIZE)
        assert name == scenes[scene].name
        assert target.boxes.tolist() == [[0, 0, SIZE[1], SIZE[0]]]
        assert target.ids.tolist() == [scenes[scene].ids[row]]
        assert (_pixels(image) == _color(int(target.ids))).all()


def test_background_overlaps_people_little(scenes: list[Scene]) -> None:
    """Sides of 0.5 to 2 times the usual ones, and an IoU below 0.3 with everyone."""
    crops = _crops(scenes, background_size=(40, 16))
    seen, sides, overlaps = set(), [], []
    for place in range(200):
        index, box = crops.background(generator(3, place))
        assert iou(box[None], scenes[index].boxes).max() < 0.3
        assert box.min() >= 0
        assert (box[2:] <= scenes[index].size).all()
        overlaps.append(intersection(box[None], scenes[index].boxes).any())
        seen.add(index)
        sides.append(box[2:] - box[:2])
    assert seen == set(range(6))
    assert any(overlaps)
    width, height = np.array(sides).T
    assert 7 < width.min() < 11 < 25 < width.max() <= 32
    assert 18 < height.min() < 26 < 65 < height.max() <= 80
    assert abs(np.corrcoef(width, height)[0, 1]) < 0.3
    _, target, _ = crops[(0, 0, BACKGROUND)]
    assert target.ids.tolist() == [BACKGROUND]


def test_background_fits_small_pictures(scenes: list[Scene]) -> None:
    _, box = _crops(scenes).background(generator(3, 0))
    assert (box[2:] - box[:2] <= [140, 100]).all()


def test_augmentation_flips_and_changes_crops(scenes: list[Scene]) -> None:
    flipped = _crops(scenes, augmentation=Augmentation(flip=1.0))
    plain = _crops(scenes, augmentation=Augmentation())
    for place in range(5):
        a, b = flipped[(0, place, 1)], plain[(0, place, 1)]
        assert torch.equal(a[0], b[0].flip(2))
        assert torch.equal(a[1].boxes, b[1].boxes)
    changed = Augmentation(color_jitter=0.4, erase=1.0)
    varied = _crops(scenes, augmentation=changed)[(0, 0, 1)][0]
    assert varied.float().std(dim=(1, 2)).max() > 0
    assert not torch.equal(varied, _crops(scenes, augmentation=changed)[(0, 1, 1)][0])


def test_a_slot_alone_says_what_is_drawn(scenes: list[Scene]) -> None:
    settings: dict[str, Any] = {"augmentation": Augmentation(0.5, 0.0, 0.2, 0.5)}
    one, two = _crops(scenes, **settings), _crops(scenes, **settings)
    for slot in ((4, 2, 3), (0, 0, BACKGROUND), (4, 2, 3)):
        assert torch.equal(one[slot][0], two[slot][0])
    assert not torch.equal(one[(4, 2, 3)][0], one[(5, 2, 3)][0])
    assert not torch.equal(one[(4, 2, 3)][0], _crops(scenes, seed=1, **settings)[(4, 2, 3)][0])


def test_everyone_comes_once_an_epoch_and_half_is_background(scenes: list[Scene]) -> None:
    sampler = CropSampler(_crops(scenes), 8, seed=0)
    drawn = batches(sampler, 0, 6)
    assert all(len(b) == 8 and b[1::2] == [BACKGROUND] * 4 for b in drawn)
    people = [whom for b in drawn for whom in b[::2]]
    assert sorted(people[:12]) == sorted(people[12:]) == list(range(12))
    assert people[:12] != people[12:]
    assert CropSampler(_crops(scenes), 8, seed=0).batch(4) == drawn[4]
    assert CropSampler(_crops(scenes), 8, seed=1).batch(4) != drawn[4]
    # More than there are people: some come again.
    assert len(CropSampler(_crops(scenes), 64, seed=0).batch(0)) == 64


def test_what_cannot_be_cut_is_an_error(scenes: list[Scene]) -> None:
    nobody = [Scene(s.name, s.path, s.size, s.boxes, np.full(3, -1)) for s in scenes]
    with pytest.raises(DataError, match="no labelled people; crops need some"):
        _crops(nobody)
    for size in (0, 7):
        with pytest.raises(DataError, match=f"batch size is {size}, expected an even number"):
            CropSampler(_crops(scenes), size, seed=0)
