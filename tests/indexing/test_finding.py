"""People of a picture as a store takes them: boxes, scores, thumbnails."""

import io

import numpy as np
import pytest
from blocks import GREEN, Blocks
from PIL import Image

from personsearch.indexing.finding import THUMBNAIL, describe, find, surest
from personsearch.media.files import Frame
from personsearch.types import Detections


def frame() -> Frame:
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:20, 0:10] = (90, 0, 0)
    pixels[:20, 20:30] = GREEN
    return Frame(pixels, 7, 0.5, 1.5)


def test_the_people_of_a_frame() -> None:
    found = describe(frame(), find(Blocks(), frame(), 0.5))
    assert found.boxes.tolist() == [[20.0, 0.0, 30.0, 20.0]]
    assert (found.size, found.frame, found.position, found.time) == ((60, 30), 7, 0.5, 1.5)
    with Image.open(io.BytesIO(found.thumbnails[0])) as thumbnail:
        assert thumbnail.size == (10, 20)
        red, green, blue = np.asarray(thumbnail)[10, 5].tolist()
    assert green > 240 > 20 > max(red, blue)
    assert len(find(Blocks(), frame(), 0.3).boxes) == 2


def test_a_score_of_the_threshold_itself_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 20]] * 3, np.float32)
    vectors = np.eye(3, dtype=np.float32)
    found = Detections(boxes, np.array([0.5, 0.25, 0.75], np.float32), vectors)
    assert surest(found, 0.5).scores.tolist() == pytest.approx([0.5, 0.75])
    assert not len(surest(found, 0.8).boxes)


@pytest.mark.parametrize("box", [[-5, -5, 500, 400], [59.7, 29.5, 70, 40], [10, 10, 10.1, 10.1]])
def test_boxes_at_the_border_have_thumbnails(box: list[float]) -> None:
    large = Frame(np.zeros((300, 600, 3), np.uint8), None, None, None)
    found = Detections(np.array([box], np.float32), np.ones(1), np.eye(1, 3, dtype=np.float32))
    (thumbnail,) = describe(large, found).thumbnails
    with Image.open(io.BytesIO(thumbnail)) as picture:
        assert 1 <= max(picture.size) <= THUMBNAIL
