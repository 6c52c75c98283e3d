"""Canvases: every box holds the person whom its id names, and nobody overlaps anyone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from personsearch.boxes import area, clip, intersection
from personsearch.errors import DataError
from personsearch.training.canvases import Canvases
from personsearch.training.training_set import Batch, PictureCache, load
from personsearch.training.transforms import Augmentation
from personsearch.types import Scene

SIZE = (160, 120)


def _color(identity: int) -> np.ndarray:
    """Far from the background, and from every other identity's."""
    return np.array([40 * identity, 255 - 40 * identity, 255 * (identity % 2)], dtype=np.uint8)


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    """Six ids, in one color each; some stand at the border, one is unlabelled."""
    made = []
    for k in range(6):
        pixels = np.full((100, 140, 3), 128, dtype=np.uint8)
        boxes = [[0, 10, 22, 60], [60, 50 - 4 * k, 84, 100], [118, 0, 140, 40]]
        ids = [k, (k + 1) % 6, -1]
        for (x1, y1, x2, y2), identity in zip(boxes, ids, strict=True):
            pixels[y1:y2, x1:x2] = _color(identity) if identity >= 0 else 0
        path = tmp_path / f"{k}.png"
        Image.fromarray(pixels).save(path)
        made.append(Scene(path.name, path, (140, 100), np.array(boxes), np.array(ids)))  # type: ignore[arg-type]
    return made


def _canvases(scenes: list[Scene], seed: int = 0, **changes: float) -> Canvases:
    options = {"color_jitter": 0.0, "erase": 0.0, "flip": 0.5} | changes
    pictures = PictureCache(scenes, keep=True)
    return Canvases(scenes, pictures, Augmentation(**options), seed, SIZE, most=6)


def _batch(canvases: Canvases, iteration: int) -> Batch:
    """Return three canvases."""
    (batch,) = load(canvases, [[(iteration, place) for place in range(3)]], workers=0)
    return batch.to(torch.device("cpu"))


def test_every_box_holds_the_person_that_its_id_names(scenes: list[Scene]) -> None:
    canvases, seen = _canvases(scenes), set()
    for iteration in range(15):
        batch = _batch(canvases, iteration)
        for image, target in zip(batch.images, batch.targets, strict=True):
            pixels = (image * 255).round().numpy().transpose(1, 2, 0)
            assert len(target.boxes) > 0
            for box, identity in zip(target.boxes.numpy(), target.ids.tolist(), strict=True):
                seen.add(identity)
                x1, y1, x2, y2 = np.round(box).astype(int)
                near = np.abs(pixels - _color(identity)).max(axis=2) < 40
                assert near[y1:y2, x1:x2].mean() > 0.75
                # Only the outermost pixels are shared with the surroundings.
                assert near[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].all()
                # The person is not larger than the box, either.
                grown = clip(np.array([[x1 - 4, y1 - 5, x2 + 4, y2 + 5]]), SIZE)[0].astype(int)
                around = near[grown[1] : grown[3], grown[0] : grown[2]]
                assert near[y1:y2, x1:x2].sum() > 0.9 * around.sum()
    assert seen == set(range(6))


def _one_person(tmp_path: Path, **changes: float) -> Canvases:
    """Canvases of one white person, 40 x 80, on black."""
    pixels = np.zeros((200, 160, 3), dtype=np.uint8)
    pixels[60:140, 60:100] = 255
    Image.fromarray(pixels).save(tmp_path / "one.png")
    boxes = np.array([[60, 60, 100, 140]], dtype=np.float32)
    return _canvases(
        [Scene("one", tmp_path / "one.png", (160, 200), boxes, np.array([0]))], **changes
    )


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_boxes_end_where_people_end(flip: float, tmp_path: Path) -> None:
    canvases, errors = _one_person(tmp_path, flip=flip), []
    for iteration in range(20):
        batch = _batch(canvases, iteration)
        for image, target in zip(batch.images, batch.targets, strict=True):
            # Another cut of the person may stand close by; the first has black around it.
            x1, y1, x2, y2 = box = target.boxes[0].numpy()
            x, y = int((x1 + x2) / 2), int((y1 + y2) / 2)
            row, column = image[0, y].numpy(), image[0, :, x].numpy()
            found = [
                x - row[max(0, int(x1) - 1) : x].sum(),
                y - column[max(0, int(y1) - 1) : y].sum(),
                x + row[x : int(x2) + 2].sum(),
                y + column[y : int(y2) + 2].sum(),
            ]
            errors.append(found - box)
    assert np.abs(errors).max() < 0.5
    assert np.abs(np.mean(errors, axis=0)).max() < 0.1


def test_where_a_cut_ends_does_not_tell_where_the_person_ends(tmp_path: Path) -> None:
    margins = []
    for flip in (0.0, 1.0):
        canvases = _one_person(tmp_path, flip=flip)
        # The first cut starts at the corner of the canvas.
        first = [t.boxes[0].tolist() for i in range(30) for t in _batch(canvases, i).targets]
        margins.append([(x1 / (x2 - x1), y1 / (y2 - y1)) for x1, y1, x2, y2 in first])
    drawn = np.array(margins)
    least, most = Canvases.margins
    pixel = np.array([1 / 40, 1 / 80])  # cuts end on whole pixels
    assert (drawn >= least * np.array([1, 0.5]) - 1e-3).all()
    assert (drawn <= most * np.array([1, 0.5]) + pixel).all()
    assert (np.ptp(drawn, axis=1) > 0.8 * (most - least) * np.array([1, 0.5])).all()
    assert abs(np.corrcoef(drawn[0].T)[0, 1]) < 0.4


def test_people_outside_of_their_picture_are_left_out(scenes: list[Scene]) -> None:
    outside, half = [150, 10, 170, 60], [130, 10, 150, 60]
    boxes = np.array([outside, half, [-20, -20, 0, 10]], dtype=np.float32)
    scene = scenes[0]
    lost = Scene("lost", scene.path, scene.size, boxes, np.array([0, 1, 2]))
    for iteration in range(10):
        for target in _batch(_canvases([lost]), iteration).targets:
            assert set(target.ids.tolist()) == {1}
            held = target.boxes.numpy()
            np.testing.assert_allclose(clip(held, SIZE), held, atol=1e-4)
            # Half of the box is in the picture.
            assert ((held[:, 3] - held[:, 1]) / (held[:, 2] - held[:, 0]) > 4).all()
    nobody = Scene("lost", scene.path, scene.size, boxes[::2], np.array([0, 2]))
    with pytest.raises(DataError, match="no labelled people"):
        _canvases([nobody])


def test_people_fit_and_do_not_overlap(scenes: list[Scene]) -> None:
    canvases = _canvases(scenes)
    for iteration in range(20):
        for target in _batch(canvases, iteration).targets:
            boxes = target.boxes.numpy()
            np.testing.assert_allclose(clip(boxes, SIZE), boxes, atol=1e-4)
            shared = intersection(boxes, boxes)
            np.fill_diagonal(shared, 0)
            assert shared.max() < 1e-2
            assert (area(boxes) > 20).all()
            assert (np.diff(np.sort(target.ids.numpy())) > 0).all()


def test_a_batch_depends_on_seed_and_iteration_alone(scenes: list[Scene]) -> None:
    settings = {"color_jitter": 0.3, "erase": 0.5}
    first, second = _canvases(scenes, **settings), _canvases(scenes, **settings)
    _batch(second, 9)
    for a, b in zip(_batch(first, 4).images, _batch(second, 4).images, strict=True):
        assert torch.equal(a, b)
    other = _batch(_canvases(scenes, seed=1, **settings), 4)
    assert not torch.equal(_batch(first, 4).images[0], other.images[0])
    assert not torch.equal(_batch(first, 4).images[0], _batch(first, 4).images[1])


def test_shapes_and_names(scenes: list[Scene]) -> None:
    batch = _batch(_canvases(scenes), 2)
    assert [tuple(i.shape) for i in batch.images] == [(3, 120, 160)] * 3
    assert all(t.boxes.dtype == torch.float32 for t in batch.targets)
    assert all(t.ids.dtype == torch.int64 for t in batch.targets)
    assert batch.names[1] == "canvas 1 of iteration 2"


def test_people_larger_than_a_canvas_are_made_to_fit(tmp_path: Path) -> None:
    Image.fromarray(np.full((900, 1200, 3), 200, dtype=np.uint8)).save(tmp_path / "a.png")
    boxes = np.array([[0, 0, 1200, 900], [100, 0, 200, 900]], dtype=np.float32)
    scene = Scene("a", tmp_path / "a.png", (1200, 900), boxes, np.array([0, 1]))
    for iteration in range(10):
        for target in _batch(_canvases([scene]), iteration).targets:
            assert len(target.ids) > 0
            boxes = target.boxes.numpy()
            np.testing.assert_allclose(clip(boxes, SIZE), boxes, atol=1e-4)


def test_nobody_labelled_says_so(scenes: list[Scene]) -> None:
    nameless = [Scene(s.name, s.path, s.size, s.boxes, np.full(3, -1)) for s in scenes]
    with pytest.raises(DataError, match="no labelled people"):
        _canvases(nameless)
