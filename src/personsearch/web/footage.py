"""Pictures and clips of people in the archive. Paths come from the archive, never from a client."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from personsearch.errors import PictureError
from personsearch.media.damage import decoding
from personsearch.media.picture_limit import MAX_PIXELS, check_pixels
from personsearch.media.pictures import read_picture
from personsearch.media.video import open_video, read_frame, timestamp
from personsearch.store import StoredPerson

CLIP_WIDTH, CLIP_RATE = 960, 25
"""The largest width in pixels, and the frame rate, of a clip."""
MAX_CLIP = 20.0
"""Longest clip, in seconds."""
_MAX_DECODED = 3000  # frames from the keyframe before the clip to its end


def whole_picture(person: StoredPerson) -> NDArray[np.uint8]:
    """Return the photo or video frame that shows a person, RGB (H, W, 3) uint8.

    Raises:
        PictureError: the file is missing, cannot be read, or is not the one that was indexed.
    """
    path = _file(person)
    pixels = read_picture(path) if person.frame is None else read_frame(path, person.frame)
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
    import av

    path = _file(person)
    if person.frame is None or person.position is None:
        raise PictureError(f"{path}: is a photo, which has no clip")
    begin = max(person.position - seconds / 2, 0.0)
    written = io.BytesIO()
    with decoding(path), open_video(path) as video:
        stream = video.streams.video[0]
        stream.thread_type = "AUTO"
        context = stream.codec_context
        check_pixels(path, (context.width, context.height), MAX_PIXELS, " a frame")
        # Positions count from the first frame, whose stamp need not be zero.
        start = float((stream.start_time or 0) * (stream.time_base or 0))
        if begin > 0 and stream.time_base:
            video.seek(int((begin + start) / stream.time_base), stream=stream, backward=True)
        stamped = (
            (number / 25 if stamp is None else stamp - start, frame)
            for number, frame in enumerate(video.decode(stream))
            for stamp in (timestamp(video, frame),)
        )
        with av.open(written, "w", format="mp4") as made:
            if not _copy(stamped, made, begin, begin + seconds):
                raise PictureError(f"{path}: has no frames at {person.position:.1f} s")
    return written.getvalue()


def _copy(frames: Any, made: Any, begin: float, end: float) -> int:
    """Encode the frames between two positions; return their number."""
    import av

    out: Any = None
    count, due, rate = 0, begin, CLIP_RATE
    for number, (seconds, frame) in enumerate(frames):
        if seconds >= end or number >= _MAX_DECODED:
            break
        if seconds + 1e-6 < due:
            continue
        due = max(due + 1 / rate, seconds)
        pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
        if out is None:
            out = made.add_stream("libx264", rate=rate)
            out.width, out.height = _even(pixels.shape[1], pixels.shape[0])
            out.pix_fmt, out.time_base = "yuv420p", Fraction(1, 1000)
            out.options = {"preset": "veryfast", "crf": "23"}
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        picture = picture.reformat(out.width, out.height, "yuv420p")
        picture.pts, picture.time_base = round((seconds - begin) * 1000), Fraction(1, 1000)
        made.mux(out.encode(picture))
        count += 1
    if out is not None:
        made.mux(out.encode())
    return count


def _file(person: StoredPerson) -> Path:
    if not person.has_file:
        raise PictureError(f"{person.uri}: has no file; only its thumbnail is kept")
    return person.path


def _even(width: int, height: int) -> tuple[int, int]:
    """Return the size of a clip: at most `CLIP_WIDTH` wide, and even, as H.264 needs."""
    scale = min(1.0, CLIP_WIDTH / width)
    return max(round(width * scale / 2) * 2, 2), max(round(height * scale / 2) * 2, 2)
