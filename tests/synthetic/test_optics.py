from dataclasses import replace

import cv2
import numpy as np
import pytest

from personsearch.synthetic.optics import Camera, expose, make_cameras
from personsearch.synthetic.randomness import Random


@pytest.fixture
def camera():
    return Camera(
        index=0,
        seed=1,
        place="street",
        size=(64, 48),
        horizon=0.25,
        eye=1.5,
        far=0.5,
        near=1.0,
        gain=(256, 256, 256),
        bend=0,
        saturation=256,
        blur=1,
        noise=0,
    )


def test_people_grow_towards_the_camera(camera):
    assert camera.unit(12.0) == 0.0
    assert camera.unit(42.0) == pytest.approx(20.0)


def test_cameras_differ_and_people_in_them_are_neither_tiny_nor_huge():
    cameras = make_cameras(8, (640, 480), ("a", "b"), 5)
    assert cameras == make_cameras(8, (640, 480), ("a", "b"), 5)
    assert len({c.gain for c in cameras}) == 8
    assert [c.place for c in cameras[:3]] == ["a", "b", "a"]
    for c in cameras:
        assert 70 < c.unit(c.far * 480) < 125
        assert 180 < c.unit(c.near * 480) < 480


def test_a_neutral_camera_only_changes_the_exposure(camera):
    grey = np.full((48, 64, 3), 100, np.uint8)
    taken = expose(grey, camera, Random(0))
    assert taken.std(axis=(0, 1)).max() == 0
    assert 80 < taken.mean() < 120


def test_gain_tints_and_saturation_zero_removes_colour(camera):
    picture = np.full((48, 64, 3), (40, 90, 180), np.uint8)
    plain = expose(picture.copy(), camera, Random(0))[0, 0].astype(int)
    warm = expose(picture.copy(), replace(camera, gain=(200, 256, 300)), Random(0))[0, 0]
    assert warm[0] < plain[0]
    assert warm[2] > plain[2]
    dull = expose(picture.copy(), replace(camera, saturation=0), Random(0))[0, 0].astype(int)
    assert np.ptp(dull) < 15 < np.ptp(plain)


def test_bend_lifts_the_middle_tones(camera):
    picture = np.full((48, 64, 3), 128, np.uint8)
    usual = expose(picture.copy(), camera, Random(0)).mean()
    assert expose(picture.copy(), replace(camera, bend=60), Random(0)).mean() > usual + 8


def test_noise_and_blur(camera):
    half = np.zeros((48, 64, 3), np.uint8)
    half[:, 32:] = 200
    sharp = expose(half.copy(), camera, Random(0))
    soft = expose(half.copy(), replace(camera, blur=5), Random(0))
    assert len(np.unique(sharp[0, :, 0])) == 2
    assert len(np.unique(soft[0, :, 0])) > 4
    grey = np.full((48, 64, 3), 128, np.uint8)
    noisy = expose(grey.copy(), replace(camera, noise=9), Random(0))
    assert 1 < noisy.std() < 9
    assert abs(noisy.mean() - expose(grey.copy(), camera, Random(0)).mean()) < 1


def test_saturation_matches_the_exact_formula(camera):
    rng = Random(3)
    picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    strong = replace(camera, saturation=256)
    # Without other effects, the exposure is a table of levels: equal levels stay equal.
    taken = expose(picture.copy(), strong, Random(1))
    table = {}
    for before, after in zip(picture[..., 1].ravel(), taken[..., 1].ravel(), strict=True):
        assert table.setdefault(int(before), int(after)) == int(after)
    assert cv2.countNonZero(taken[..., 0]) > 0
