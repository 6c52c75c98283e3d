"""Drawn rankings: what is cut out, where it is put, and what its border says."""

from pathlib import Path

import numpy as np
import pytest

from personsearch.errors import DataError
from personsearch.media.pictures import read_picture
from personsearch.plots.rankings import (
    BLUE,
    GREEN,
    GREY,
    RED,
    Panel,
    draw_ranking,
    thumbnail,
    write_picture,
)


def scene() -> np.ndarray:
    """400 x 500, black, with a white person at 100, 150, 140, 250."""
    picture = np.zeros((500, 400, 3), dtype=np.uint8)
    picture[150:250, 100:140] = 255
    return picture


def test_a_thumbnail_shows_the_box_and_its_surroundings() -> None:
    drawn = thumbnail(scene(), (100, 150, 140, 250), size=(120, 300), context=1.0, color=None)
    # The box is a third of the cut each way: pixels of 1 to 1.
    assert drawn.shape == (300, 120, 3)
    assert (drawn[101:199, 41:79] == 255).all()
    assert (drawn == 255).all(axis=2).sum() == 40 * 100


def test_nobody_is_stretched() -> None:
    """Whatever the thumbnail's shape, the person keeps 40 : 100."""
    for size in ((100, 100), (200, 80), (60, 240)):
        drawn = thumbnail(scene(), (100, 150, 140, 250), size=size, color=None)
        white = (drawn > 127).all(axis=2)
        height, width = white.any(axis=1).sum(), white.any(axis=0).sum()
        assert width / height == pytest.approx(0.4, abs=0.05)


def test_the_outline_is_on_the_box() -> None:
    drawn = thumbnail(scene(), (100, 150, 140, 250), size=(120, 300), context=1.0, color=RED)
    ys, xs = np.nonzero((drawn == RED).all(axis=2))
    assert abs(xs.min() - 40) <= 1
    assert abs(xs.max() - 79) <= 1
    assert abs(ys.min() - 100) <= 1
    assert abs(ys.max() - 199) <= 1
    assert (drawn[150, 60] == 255).all()


def test_a_box_at_the_border_is_moved_in_and_a_small_picture_padded() -> None:
    picture = np.full((300, 400, 3), 255, dtype=np.uint8)
    drawn = thumbnail(picture, (-10, 0, 40, 100), size=(80, 160), color=None)
    assert (drawn == 255).all()
    tiny = thumbnail(picture[:20, :20], (0, 0, 20, 20), size=(50, 100), context=0, color=None)
    assert (tiny[50] == 255).all()
    assert (tiny[0] == GREY).all()
    assert (tiny[-1] == GREY).all()


@pytest.mark.parametrize("box", [(400, 0, 410, 10), (0, 0, 0, 10), (-9, 0, 0, 10)])
def test_a_box_outside_is_an_error(box: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="outside of its picture of 400 x 500"):
        thumbnail(scene(), box)


def test_the_query_is_left_of_its_hits_and_borders_tell_the_truth() -> None:
    box = (100, 150, 140, 250)
    query = Panel(scene(), box, ["query"])
    hits = [Panel(scene(), box, ["1"], correct=truth) for truth in (True, False, None)]
    sheet = draw_ranking(query, iter(hits), columns=2, size=(60, 90))
    cell = 60 + 2 * 4 + 8
    x = [8, 8 + cell + 8, 8 + 2 * cell + 8]
    y = [8, 8 + 90 + 2 * 4 + 8 + 16]
    assert tuple(sheet[y[0] + 1, x[0] + 1]) == BLUE
    assert tuple(sheet[y[0] + 1, x[1] + 1]) == GREEN
    assert tuple(sheet[y[0] + 1, x[2] + 1]) == RED
    assert tuple(sheet[y[1] + 1, x[1] + 1]) == GREY
    assert (sheet[y[1] : y[1] + 90, x[2] :] == 255).all()  # nothing in the last place
    assert sheet.shape == (8 + 2 * (90 + 8 + 8 + 16), 16 + 3 * cell, 3)
    below = sheet[y[0] + 98 : y[0] + 98 + 16, x[0] : x[0] + 68]
    assert (below < 128).any()  # its line of text


def test_a_query_without_hits_and_long_text_still_draw() -> None:
    panel = Panel(scene(), (100, 150, 140, 250), ["a very long name of a picture \u00fc.jpg" * 3])
    sheet = draw_ranking(panel, [], title="nobody")
    assert (sheet[:, 8 + 168 + 8 :] == 255).all()


@pytest.mark.parametrize("name", ["hits.png", "hits.jpg", "HITS.JPG"])
def test_it_is_written_as_a_picture(tmp_path: Path, name: str) -> None:
    sheet = np.zeros((20, 30, 3), dtype=np.uint8)
    sheet[..., 0] = 200
    write_picture(sheet, tmp_path / name)
    np.testing.assert_allclose(read_picture(tmp_path / name), sheet, atol=3)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    sheet = np.zeros((20, 30, 3), dtype=np.uint8)
    with pytest.raises(DataError, match="cannot be written"):
        write_picture(sheet, tmp_path / "gone" / "hits.png")
    with pytest.raises(DataError, match="expected a name ending in"):
        write_picture(sheet, tmp_path / "hits.gif")
