from pathlib import Path

import pytest

from personsearch.errors import PictureError
from personsearch.media.picture_limit import check_pixels


def test_only_more_pixels_than_the_limit_are_refused() -> None:
    check_pixels(Path("a.png"), (30, 20), 600)
    with pytest.raises(PictureError, match=r"^a\.png: 30 x 20 is 600 pixels, the limit is 599;"):
        check_pixels(Path("a.png"), (30, 20), 599)
    with pytest.raises(PictureError, match="600 pixels a frame, the limit"):
        check_pixels(Path("a.mp4"), (30, 20), 1, " a frame")
