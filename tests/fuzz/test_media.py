"""Pictures and videos of any content, in a decoder as indexing and the service use it."""

import io
from itertools import islice
from pathlib import Path

import numpy as np
from damaged import ODD_ENTRIES, odd_photo, video
from fuzzed import changed_bytes, fuzz
from PIL import Image

from personsearch.media import apart
from personsearch.media.pictures import decode_picture
from personsearch.media.sampling import Sampling


def _pictures() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    found = [odd_photo("JPEG", entry) for entry in list(ODD_ENTRIES.values())[:3]]
    for format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "GIF"):
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, format)
        found.append(written.getvalue())
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "TIFF", compression="tiff_lzw")
    progressive = io.BytesIO()
    Image.fromarray(pixels).save(progressive, "JPEG", progressive=True)
    return [*found, written.getvalue(), progressive.getvalue()]


def test_pictures() -> None:
    fuzz(
        "pictures", lambda data: decode_picture(data, "a picture"), changed_bytes(_pictures()), 600
    )


def test_pictures_apart() -> None:
    seeds = changed_bytes(_pictures())
    fuzz("pictures-apart", lambda data: apart.decode_picture(data, "a picture"), seeds, 100)


def test_videos(tmp_path: Path) -> None:
    formats = (("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "libx264"), ("a.webm", "libvpx"))
    seeds = [video(tmp_path / name, codec) for name, codec in formats]
    path = tmp_path / "given.mp4"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        for index, seconds, pixels in islice(apart.play(path, Sampling(0.5)), 50):
            assert index >= 0
            assert seconds == seconds
            assert pixels.ndim == 3

    fuzz("videos", check, changed_bytes(seeds), 60)
