"""Damaged photos and videos, made from sound ones; each made decoders raise something odd."""

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype(np.uint8)

# EXIF entries, (tag, type, count, value), that Pillow reads but fails to write again: struct.error,
# TypeError, KeyError, AttributeError, ValueError.
ODD_ENTRIES = {
    "signed width": (0x0100, 6, 1, b"\xff\xff\xff\xff"),
    "wide bits": (0x0102, 4, 1, b"\xff\xff\xff\xff"),
    "text resolution": (0x011A, 2, 1, b"\0\0\0\1"),
    "unknown color": (0x0106, 3, 2, b"\0\0\0\1"),
    "fraction as name": (0x010D, 5, 1, b"\0\0\0\1"),
    "resolution NaN": (0x011A, 11, 1, b"\xff\xff\xff\xff"),
    "GPS of nothing": (0x8825, 3, 2, b"\0\0\0\1"),
}


def odd_exif(entry: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block of orientation 6 (on its side) and one more entry."""
    entries = [entry, (0x0112, 3, 1, b"\0\6\0\0")]
    written = b"".join(struct.pack(">HHI", *one[:3]) + one[3] for one in sorted(entries))
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + written + bytes(4)


def odd_photo(format: str, entry: tuple[int, int, int, bytes], **save: Any) -> bytes:
    """A photo of 60 x 50 that lies on its side and has an odd EXIF block."""
    written = io.BytesIO()
    Image.fromarray(NOISE).save(written, format, exif=odd_exif(entry), **save)
    return written.getvalue()


def damaged_avif() -> bytes:
    """An AVIF whose pixels are overwritten: Pillow raises RuntimeError."""
    written = io.BytesIO()
    Image.fromarray(NOISE).save(written, "AVIF")
    content = written.getvalue()
    pixels = content.index(b"mdat") + 8
    return content[:pixels] + b"\xff" * (len(content) - pixels)


def video(path: Path, codec: str) -> bytes:
    """Twenty frames that become brighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(20):
            pixels = np.full((48, 64, 3), 9 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def cut_video(path: Path, codec: str) -> Path:
    """A video that ends where PyAV raises its EOFError while it opens the file."""
    content = video(path, codec)
    for end in range(max(content.find(b"moov"), 188), len(content), 7):
        path.write_bytes(content[:end])
        try:
            with av.open(str(path)):
                pass
        except EOFError:
            return path
        except av.FFmpegError:
            continue
    raise AssertionError(f"no cut of {path} makes PyAV raise EOFError")


def video_without_codec(path: Path) -> Path:
    """An MP4 in a codec that nobody knows: its stream has no codec context."""
    path.write_bytes(video(path, "libx264").replace(b"avc1", b"zzzz"))
    return path


def damage(folder: Path) -> list[str]:
    """Put one damaged file of each kind into a folder; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pixels.avif").write_bytes(damaged_avif())
    (folder / "half.jpg").write_bytes(odd_photo("JPEG", ODD_ENTRIES["signed width"])[:-300])
    cut_video(folder / "cut.mp4", "libx264")
    cut_video(folder / "cut.ts", "mpeg2video")
    video_without_codec(folder / "codec.mp4")
    return sorted(path.name for path in folder.iterdir())
