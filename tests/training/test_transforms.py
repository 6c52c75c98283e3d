"""Augmentation moves boxes with the pixels that they hold."""

import numpy as np
import pytest

from personsearch.training.transforms import Augmentation, erase, flip, recolor, rescale

RED, GREY = (255, 0, 0), (60, 60, 60)
BOXES = np.array([[10, 12, 30, 52], [60, 20, 90, 70]], dtype=np.float32)


def _picture() -> np.ndarray:
    picture = np.full((80, 100, 3), GREY, dtype=np.uint8)
    for x1, y1, x2, y2 in BOXES.astype(int):
        picture[y1:y2, x1:x2] = RED
    return picture


def _red(picture: np.ndarray) -> np.ndarray:
    return (picture[..., 0] > 150) & (picture[..., 1] < 60)


def _covered(picture: np.ndarray, boxes: np.ndarray) -> float:
    """IoU of the red pixels with the union of the boxes."""
    inside = np.zeros(picture.shape[:2], dtype=bool)
    for x1, y1, x2, y2 in np.round(boxes).astype(int):
        inside[y1:y2, x1:x2] = True
    red = _red(picture)
    return float((inside & red).sum() / (inside | red).sum())


def test_flip_mirrors_boxes_and_pixels() -> None:
    picture, boxes = flip(_picture(), BOXES)
    assert boxes.tolist() == [[70, 12, 90, 52], [10, 20, 40, 70]]
    assert _covered(picture, boxes) == 1.0
    again, back = flip(picture, boxes)
    np.testing.assert_array_equal(again, _picture())
    np.testing.assert_array_equal(back, BOXES)


def test_rescale_keeps_boxes_on_their_pixels() -> None:
    factors = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        picture, boxes, kept = rescale(_picture(), BOXES, rng, 0.3)
        assert picture.shape == (80, 100, 3)
        assert len(boxes) == kept.sum()
        assert boxes.dtype == np.float32
        if kept.all():
            assert _covered(picture, boxes) > 0.85
        whole = boxes[(boxes[:, :2] > 0).all(1) & (boxes[:, 2] < 100) & (boxes[:, 3] < 80)]
        factors += ((whole[:, 2:] - whole[:, :2]).prod(1) ** 0.5).tolist()
    assert min(factors) < 24
    assert max(factors) > 40


def _edges(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Where the red block around the middle of `box` ends, to a part of a pixel."""
    x, y = ((box[:2] + box[2:]) / 2).astype(int)
    # How much of each pixel is red: green is 60 beside the block, 0 in it.
    row, column = 1 - picture[y, :, 1] / 60.0, 1 - picture[:, x, 1] / 60.0
    reach = ((box[2:] - box[:2]) / 2).astype(int) + 4
    left, top = max(0, x - reach[0]), max(0, y - reach[1])
    before = x - row[left:x].sum(), y - column[top:y].sum()
    after = x + row[x : x + reach[0]].sum(), y + column[y : y + reach[1]].sum()
    return np.array([*before, *after])


def test_rescale_moves_boxes_as_exactly_as_pixels() -> None:
    picture = np.full((80, 100, 3), GREY, dtype=np.uint8)
    picture[30:50, 40:60] = RED
    block = np.array([[40, 30, 60, 50]], dtype=np.float32)
    errors, larger = [], []
    for seed in range(60):
        scaled, boxes, _ = rescale(picture, block, np.random.default_rng(seed), 0.9)
        side = boxes[0, 2] - boxes[0, 0]
        if side > 10:
            errors.append(_edges(scaled, boxes[0]) - boxes[0])
            if side > 28:
                larger.append(errors[-1])
    assert np.abs(errors).max() < 0.6
    # A warp that counts from the edges of pixels is up to half a pixel off on large blocks.
    assert len(larger) > 10
    assert np.abs(np.mean(larger, axis=0)).max() < 0.1


def test_rescale_leaves_out_people_who_leave_the_picture() -> None:
    corner = np.array([[0, 0, 6, 6], [94, 74, 100, 80]], dtype=np.float32)
    dropped = 0
    for seed in range(40):
        _, boxes, kept = rescale(_picture(), corner, np.random.default_rng(seed), 0.5)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes.min(initial=0) >= 0
        dropped += int((~kept).sum())
    assert dropped > 10


def test_recolor_at_no_strength_changes_nothing() -> None:
    ramp = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    same = recolor(ramp, np.random.default_rng(0), 0.0)
    assert np.abs(same.astype(int) - ramp).max() <= 1


def test_recolor_is_a_monotone_table_a_channel() -> None:
    ramp = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tables = []
    for seed in range(6):
        changed = recolor(ramp, np.random.default_rng(seed), 0.3).reshape(256, 3)
        assert changed.dtype == np.uint8
        assert (np.diff(changed.astype(int), axis=0) >= 0).all()
        tables.append(changed)
    assert len({table.tobytes() for table in tables}) == 6
    assert any((t[:, 0] != t[:, 1]).any() for t in tables)
    np.testing.assert_array_equal(ramp[0, 0], [0, 0, 0])


def test_erase_covers_a_part_of_the_box_and_nothing_else() -> None:
    for seed in range(20):
        picture = _picture()
        erase(picture, BOXES[1], np.random.default_rng(seed))
        changed = (picture != _picture()).any(axis=2)
        outside = changed.copy()
        outside[20:70, 60:90] = False
        assert not outside.any()
        assert 0 < changed.sum() <= 0.7 * 0.4 * 30 * 50


@pytest.mark.parametrize("box", [[-20, -20, 5, 60], [95, 70, 140, 120], [3, 3, 8, 60]])
def test_erase_bears_boxes_at_the_border_and_small_ones(box: list[float]) -> None:
    picture = _picture()
    for seed in range(20):
        erase(picture, np.array(box, dtype=np.float32), np.random.default_rng(seed))


def test_augmentation_off_changes_nothing() -> None:
    original = _picture()
    picture, boxes, kept = Augmentation()(original, BOXES, np.random.default_rng(0))
    np.testing.assert_array_equal(picture, original)
    np.testing.assert_array_equal(boxes, BOXES)
    assert kept.tolist() == [True, True]


def test_augmentation_depends_on_the_generator_alone_and_leaves_its_input() -> None:
    everything = Augmentation(0.5, 0.3, 0.3, 0.5)
    original, boxes = _picture(), BOXES.copy()
    results = []
    for seed in (0, 1, 0):
        results.append(everything(original, boxes, np.random.default_rng(seed)))
        np.testing.assert_array_equal(original, _picture())
        np.testing.assert_array_equal(boxes, BOXES)
    for first, third in zip(results[0], results[2], strict=True):
        np.testing.assert_array_equal(first, third)
    assert (results[0][0] != results[1][0]).any()


def test_chances_are_kept() -> None:
    flips = Augmentation(flip=0.3)
    moved = [
        not np.array_equal(flips(_picture(), BOXES, np.random.default_rng(s))[1], BOXES)
        for s in range(300)
    ]
    assert 0.2 < np.mean(moved) < 0.4
    picture, _, _ = Augmentation(erase=1.0)(_picture(), BOXES, np.random.default_rng(0))
    for x1, y1, x2, y2 in BOXES.astype(int):
        assert (picture[y1:y2, x1:x2] != _picture()[y1:y2, x1:x2]).any()


def test_a_picture_without_people() -> None:
    nobody = np.zeros((0, 4), dtype=np.float32)
    everything = Augmentation(1.0, 0.3, 0.3, 1.0)
    picture, boxes, kept = everything(_picture(), nobody, np.random.default_rng(0))
    assert (picture.shape, boxes.shape, kept.shape) == ((80, 100, 3), (0, 4), (0,))
