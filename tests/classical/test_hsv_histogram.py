"""The colour floor: what it sees, what it cannot see, and what it refuses."""

import numpy as np
import pytest

from personsearch.classical.hsv_histogram import DIM, extract
from personsearch.errors import DataError

RED, BLUE, GREY = (220, 20, 20), (20, 20, 220), (120, 120, 120)


def person(
    top: tuple[int, int, int], bottom: tuple[int, int, int], height: int = 120
) -> np.ndarray:
    crop = np.empty((height, height // 2, 3), dtype=np.uint8)
    crop[: height // 2], crop[height // 2 :] = top, bottom
    return crop


def test_is_a_unit_vector_of_fixed_length() -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1, 3), (3, 200, 3), (211, 97, 3)):
        vector = extract(rng.integers(0, 256, size, dtype=np.uint8))
        assert vector.shape == (DIM,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_dot_product_is_the_part_of_stripes_with_the_same_colour() -> None:
    query = extract(person(RED, BLUE))
    assert query @ extract(person(RED, BLUE)) == pytest.approx(1, abs=1e-6)
    assert query @ extract(person(RED, GREY)) == pytest.approx(0.5, abs=1e-6)
    assert query @ extract(person(GREY, GREY)) == pytest.approx(0, abs=1e-6)


def test_sees_where_a_colour_is_worn() -> None:
    assert extract(person(RED, BLUE)) @ extract(person(BLUE, RED)) == pytest.approx(0, abs=1e-6)


def test_size_does_not_matter() -> None:
    small, large = extract(person(RED, BLUE, 24)), extract(person(RED, BLUE, 480))
    assert small @ large == pytest.approx(1, abs=1e-6)


def test_colour_order_is_rgb() -> None:
    # Pure red has hue 0, which falls into the first bin of hue; pure blue does not.
    red = extract(np.full((60, 30, 3), (255, 0, 0), dtype=np.uint8)).reshape(6, 8, 4, 4)
    blue = extract(np.full((60, 30, 3), (0, 0, 255), dtype=np.uint8)).reshape(6, 8, 4, 4)
    assert np.allclose(red[:, 0, 3, 3], 1 / np.sqrt(6))
    assert np.allclose(blue[:, 5, 3, 3], 1 / np.sqrt(6))


def test_pattern_and_shape_are_invisible() -> None:
    stripes = np.empty((120, 60, 3), dtype=np.uint8)
    stripes[:, 0::2], stripes[:, 1::2] = RED, BLUE
    halves = np.empty((120, 60, 3), dtype=np.uint8)
    halves[:, :30], halves[:, 30:] = RED, BLUE
    assert extract(stripes) @ extract(halves) > 0.99


@pytest.mark.parametrize(
    "crop",
    [
        np.zeros((10, 5), np.uint8),
        np.zeros((10, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((10, 5, 3), np.float32),
    ],
)
def test_refuses_what_is_no_crop(crop: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected RGB uint8"):
        extract(crop)
