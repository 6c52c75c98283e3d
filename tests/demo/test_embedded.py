"""Pictures are encoded inside the page, and show what they should."""

import base64
import io

import numpy as np
from PIL import Image

from personsearch.demo.embedded import embed, whole_scene


def test_the_address_holds_the_picture_in_its_colours() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30] = (220, 20, 40)
    embedded = embed(picture, quality=95)
    assert (embedded.width, embedded.height) == (60, 40)
    head, _, body = embedded.address.partition(",")
    assert head == "data:image/jpeg;base64"
    again = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB"))
    assert again.shape == (40, 60, 3)
    assert np.abs(again[20, 10].astype(int) - (220, 20, 40)).max() < 12
    assert again[20, 50].max() < 12


def test_a_wide_scene_is_shrunk_with_its_box() -> None:
    picture = np.full((400, 1040, 3), 128, np.uint8)
    drawn = whole_scene(picture, [200, 100, 400, 300], width=520, color=(1, 2, 3))
    assert drawn.shape == (200, 520, 3)
    assert drawn[100, 100].tolist() == [1, 2, 3]
    assert drawn[50, 150].tolist() == [1, 2, 3]
    assert drawn[100, 150].tolist() == [128, 128, 128]
    assert picture.min() == 128


def test_a_narrow_scene_keeps_its_size() -> None:
    assert whole_scene(np.zeros((9, 12, 3), np.uint8), [1, 1, 5, 5]).shape == (9, 12, 3)
