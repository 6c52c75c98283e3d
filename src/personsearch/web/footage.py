"""Pictures and clips of people in the archive. Paths come from the archive, never from a client."""

import io
import itertools
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from personsearch.errors import PictureError
from personsearch.media import apart
from personsearch.store import StoredPerson

CLIP_WIDTH, CLIP_RATE = 960, 25
"""The largest width in pixels, and the frame rate, of a clip."""
MAX_CLIP = 20.0
"""Longest clip, in seconds."""
CLIP_SECONDS = 60.0
"""Time to make a clip, after which it ends with the frames that were decoded."""


def whole_picture(person: StoredPerson) -> NDArray[np.uint8]:
    """Return the photo or video frame that shows a person, RGB (H, W, 3) uint8.

    Raises:
        PictureError: the file is missing, cannot be read, or is not the one that was indexed.
    """
    path = _file(person)
    if person.frame is None:
        pixels = apart.read_picture(path, inside=person.source)
    else:
        pixels = apart.read_frame(path, person.frame, inside=person.source)
    height, width = pixels.shape[:2]
    if (width, height) != person.size:
        expected = f"{person.size[0]} x {person.size[1]}"
        raise PictureError(
            f"{path}: is {width} x {height}, expected {expected} as indexed; index it again"
        )
    return pixels


def as_jpeg(pixels: NDArray[np.uint8], longest: int) -> bytes:
    """Encode a picture (H, W, 3) as JPEG, scaled down to `longest` pixels on its longer side."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=88)
    return written.getvalue()


def clip(person: StoredPerson, seconds: float = 6.0) -> bytes:
    """Return the video around a view, as MP4 (H.264) without sound, half of it before the view.

    Raises:
        PictureError: it is a photo, or the video is missing or damaged.
    """
    path, until = _file(person), time.monotonic() + CLIP_SECONDS
    if person.frame is None or person.position is None:
        raise PictureError(f"{path}: is a photo, which has no clip")
    begin = max(person.position - seconds / 2, 0.0)
    frames = apart.play_part(
        *(path, begin, begin + seconds), rate=CLIP_RATE, width=CLIP_WIDTH, inside=person.source
    )
    first = next(frames, None)
    if first is None:
        raise PictureError(f"{path}: has no frames at {person.position:.1f} s")
    in_time = itertools.takewhile(lambda _: time.monotonic() < until, frames)
    return _encode(itertools.chain([first], in_time), begin)


def _encode(frames: Iterable[tuple[float, NDArray[np.uint8]]], begin: float) -> bytes:
    """Encode frames, of even sides, as MP4."""
    import av

    written = io.BytesIO()
    with av.open(written, "w", format="mp4") as made:
        out: Any = None
        for seconds, pixels in frames:
            if out is None:
                out = made.add_stream("libx264", rate=CLIP_RATE)
                out.height, out.width = pixels.shape[:2]
                out.pix_fmt, out.time_base = "yuv420p", Fraction(1, 1000)
                out.options = {"preset": "veryfast", "crf": "23"}
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture = picture.reformat(out.width, out.height, "yuv420p")
            picture.pts, picture.time_base = round((seconds - begin) * 1000), Fraction(1, 1000)
            made.mux(out.encode(picture))
        made.mux(out.encode())
    return written.getvalue()


def _file(person: StoredPerson) -> Path:
    if not person.has_file:
        raise PictureError(f"{person.uri}: has no file on this machine; only its thumbnail is kept")
    return person.path
