import numpy as np
import pytest

from personsearch.synthetic.drawing import (
    Sprite,
    capsule,
    cosine,
    draw,
    ellipse,
    extent,
    fade,
    overlay,
    rectangle,
    shade,
    sine,
    times,
)


def test_sine_table_agrees_with_numpy_at_any_whole_degree():
    degrees = np.arange(-400, 800)
    assert np.allclose([sine(int(d)) for d in degrees], np.sin(np.radians(degrees)), atol=1e-5)
    assert np.allclose([cosine(int(d)) for d in degrees], np.cos(np.radians(degrees)), atol=1e-5)


def test_times_is_within_one_of_the_true_product():
    values = np.arange(256, dtype=np.uint8)
    product = times(values[:, None], values[None, :])
    exact = values[:, None].astype(int) * values[None, :] / 255
    assert np.abs(product - exact).max() <= 1
    assert (times(values, np.array(255, np.uint8)) == values).all()
    assert (times(values, np.array(0, np.uint8)) == 0).all()


def test_draw_covers_the_area_of_a_rectangle_at_its_place():
    sprite = draw([rectangle(0, 0, 10, 4, (10, 20, 30))], (2.0, 3.0), (5.0, 7.0))
    cover = sprite.pixels[..., 3]
    rows, columns = np.nonzero(cover > 127)
    # OpenCV's rasteriser paints the outline too: up to a pixel more on each side.
    assert (columns.min() + sprite.left, columns.max() + sprite.left) == pytest.approx(
        (5, 24), abs=1
    )
    assert (rows.min() + sprite.top, rows.max() + sprite.top) == pytest.approx((7, 18), abs=1)
    assert 20 * 12 <= int(cover.sum()) / 255 <= 22 * 14
    assert sprite.pixels[6, 6].tolist() == [10, 20, 30, 255]


def test_colour_is_multiplied_by_coverage_at_edges():
    sprite = draw([ellipse(0, 0, 10, 10, (200, 100, 50))], (1.0, 1.0), (20.3, 20.7))
    pixels = sprite.pixels.astype(int)
    edge = (pixels[..., 3] > 0) & (pixels[..., 3] < 255)
    assert edge.any()
    expected = pixels[..., 3:][edge] * np.array([200, 100, 50]) / 255
    assert np.abs(pixels[..., :3][edge] - expected).max() <= 3


def test_capsule_reaches_its_radii_beyond_both_ends():
    shape = capsule((0, 0), 2, (0, 10), 1, (0, 0, 0))
    assert extent([shape]) == pytest.approx((-2, -2, 2, 11))


def test_overlay_clips_at_the_border_and_reports_what_it_touched():
    picture = np.full((10, 10, 3), 100, np.uint8)
    sprite = Sprite(np.full((6, 6, 4), 255, np.uint8), left=7, top=-2)
    touched = overlay(picture, sprite)
    assert touched is not None
    rows, columns, coverage = touched
    assert (rows, columns, coverage.shape) == (slice(0, 4), slice(7, 10), (4, 3))
    assert (picture[:4, 7:] == 255).all()
    assert (picture[4:] == 100).all()
    assert (picture[:, :7] == 100).all()
    assert overlay(picture, Sprite(sprite.pixels, left=10, top=0)) is None


def test_half_covered_sprite_mixes_with_what_lies_below():
    picture = np.full((4, 4, 3), 200, np.uint8)
    black = np.zeros((4, 4, 4), np.uint8)
    black[..., 3] = 255
    overlay(picture, fade(Sprite(black, 0, 0), 51))
    assert np.abs(picture.astype(int) - 160).max() <= 1


def test_texture_is_asked_at_the_shapes_own_coordinates():
    asked = []

    def texture(columns, rows):
        asked.append((columns, rows))
        colours = np.zeros((len(rows), len(columns), 3), np.uint8)
        colours[:, columns > 0.5] = 255
        return colours

    sprite = draw([rectangle(0, 0, 1, 1, texture)], (20.0, 20.0), (0.0, 0.0))
    inside = sprite.pixels[4:18, :, 0]
    assert (inside[:, 2 - sprite.left : 9 - sprite.left] == 0).all()
    assert (inside[:, 11 - sprite.left : 19 - sprite.left] == 255).all()
    (columns, rows) = asked[0]
    assert columns.min() > -0.15
    assert rows.max() < 1.15


def test_shade_stays_in_range():
    assert shade((10, 100, 250), 120) == (12, 120, 255)
    assert shade((10, 100, 250), 0) == (0, 0, 0)
