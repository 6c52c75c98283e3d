"""Read frames of videos, exactly: frame k is the k-th that plays from the start.

Everything raises `PictureError` for a file that is missing, damaged, too large or not a video.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from personsearch.errors import PictureError
from personsearch.media.damage import cause, decoding, is_of_machine
from personsearch.media.opening import open_regular
from personsearch.media.picture_limit import MAX_PIXELS, check_pixels

SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
    | {".3gp", ".flv", ".m2ts", ".mts", ".ts", ".wmv"}
)
"""File name endings of videos."""

Wanted = Callable[[int, float, Callable[[], NDArray[np.uint8]]], bool]
"""Decides by index, seconds and a function that gives a `thumbnail` whether a frame is wanted."""

# Containers that stamp each frame with the time at which it plays. AVI stamps them in the order of
# storage, and MPEG streams stamp groups of frames.
_INDEXED = ("mp4", "matroska")
_NEAR = 32  # frames whose decoding is cheaper than a seek to the keyframe before them
_OPEN_AT_ONCE = 4
# A playlist that calls itself a video must not open other files or addresses.
_LIMITS = {
    "protocol_whitelist": "file",
    "format_whitelist": "asf,avi,flv,h264,hevc,m4v,matroska,mjpeg,mov,mpeg,mpegts,mpegvideo,webm",
}
_DISORDER = 0.5  # seconds by which a timestamp may lie before the one before it
_MOST_IN_PART = 3000  # frames from the keyframe before a part of a video to its end
_MAX_DAMAGE = 1000  # places in one video, so that a reader that fails for ever ends


class Video:
    """One open video, for reading frames in any order. Not for several threads at once.

    A seek lands on the keyframe before the wanted frame and goes on by timestamps; a file without
    timestamps that can be trusted (AVI, MPEG streams) is decoded from its start instead.
    """

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        self.path, self._file = Path(path), file
        self._container: Any = None
        self._opened = ExitStack()
        self._timestamps: list[int] | None = None
        self._restart()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored; see `video_size` for the size as shown."""
        return _stored_size(self._container)

    def close(self) -> None:
        self._opened.close()

    def timestamps(self) -> list[int]:
        """Return the timestamps of all frames in playing order; [] where they are not reliable."""
        if self._timestamps is None:
            with open_video(self.path, self._file) as container:
                packets = list(_shown_packets(container))
                indexed = any(name in container.format.name for name in _INDEXED)
            shown = [packet.pts for packet in packets if packet.pts is not None]
            trusted = indexed and len(shown) == len(packets) == len(set(shown))
            self._timestamps = sorted(shown) if trusted else []
        return self._timestamps

    def read(self, index: int, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Return a frame as `read_frame` does."""
        check_pixels(self.path, self.size, max_pixels, " a frame")
        if index < 0:
            raise PictureError(f"{self.path}: frame {index}, expected an index from zero")
        try:
            with decoding(self.path, f"frame {index} cannot be decoded"):
                frame = self._seek(index)
                return upright(self._count_to(index) if frame is None else frame)
        except PictureError:
            self._restart()
            raise

    def _restart(self) -> None:
        self.close()
        self._container = self._opened.enter_context(open_video(self.path, self._file))
        stream = self._container.streams.video[0]
        # Without threads, because an open decoder must survive a fork of its process.
        stream.thread_type = "NONE"
        self._frames, self._next = self._container.decode(stream), 0

    def _seek(self, index: int) -> Any:
        """Return the frame, or None where counting on is as quick, or is the only way."""
        if self._next <= index < self._next + _NEAR or index < _NEAR:
            return None
        timestamps = self.timestamps()
        if index < len(timestamps):
            stream = self._container.streams.video[0]
            self._container.seek(timestamps[index], stream=stream, backward=True)
            self._frames = self._container.decode(stream)
            complete = False
            for frame in self._frames:
                # Frames shown before the first keyframe refer to what the seek left out.
                complete = complete or frame.key_frame
                if complete and frame.pts == timestamps[index]:
                    self._next = index + 1
                    return frame
                if frame.pts is None or frame.pts >= timestamps[index]:
                    break
            self._restart()
        return None

    def _count_to(self, index: int) -> Any:
        if self._next > index:
            self._restart()
        for frame in self._frames:
            self._next += 1
            if self._next > index:
                return frame
        raise PictureError(
            f"{self.path}: has no frame {index}; it has {self._next}, counted from zero"
        )


def read_frame(path: Path, index: int, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return frame `index` (from zero) of a video as RGB (H, W, 3) uint8, turned upright.

    A few videos stay open in each thread, so that frames read in order are decoded once.
    """
    return _open_videos.open(Path(path)).read(index, max_pixels)


def play(
    path: Path, wanted: Wanted, max_pixels: int = MAX_PIXELS, file: BinaryIO | None = None
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yield index, seconds and RGB (H, W, 3) uint8 of the wanted frames, in one pass.

    Seconds count from the first frame, by the frames' own timestamps; where those start over in the
    middle, as in recordings that were joined, they go on from the frame before. Damaged parts in
    the middle are left out, and raise `PictureError` after all the frames that could be read.
    Pixels are views, which need not be contiguous. `file` is the open file; None to open it.
    """
    path, index = Path(path), -1
    broken: list[tuple[int, Exception]] = []
    with decoding(path), open_video(path, file) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        check_pixels(path, _stored_size(container), max_pixels, " a frame")
        clock = _Clock(float(stream.average_rate or 25))
        packets = container.demux(stream)
        while len(broken) <= _MAX_DAMAGE:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                break
            except EOFError:
                continue
            except Exception as error:
                if is_of_machine(error):
                    raise
                broken.append((index, error))
                continue
            for frame in frames:
                index += 1
                seconds = clock.read(timestamp(container, frame))
                if wanted(index, seconds, partial(thumbnail, frame)):
                    check_pixels(path, (frame.width, frame.height), max_pixels, " a frame")
                    yield index, seconds, _shown(frame)
    first = f" ({cause(broken[0][1])})" if broken else ""
    if index < 0:
        raise PictureError(f"{path}: has no frames that can be decoded{first}")
    if broken:
        raise PictureError(
            f"{path}: is damaged in {len(broken)} places, first after frame "
            f"{broken[0][0]}{first}; the rest was read"
        )


def play_part(
    path: Path, begin: float, end: float, *, rate: int, width: int, file: BinaryIO | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield seconds and RGB (H, W, 3) uint8 of the frames between two positions, for a clip.

    At most `rate` frames a second, scaled down to `width`, with even sides, as H.264 needs.
    """
    with decoding(path), open_video(path, file) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        check_pixels(path, _stored_size(container), MAX_PIXELS, " a frame")
        # Positions count from the first frame, whose stamp need not be zero.
        start = float((stream.start_time or 0) * (stream.time_base or 0))
        if begin > 0 and stream.time_base:
            container.seek(int((begin + start) / stream.time_base), stream=stream, backward=True)
        due = begin
        for number, frame in enumerate(container.decode(stream)):
            stamp = timestamp(container, frame)
            seconds = number / 25 if stamp is None else stamp - start
            if seconds >= end or number >= _MOST_IN_PART:
                break
            if seconds + 1e-6 < due:
                continue
            due = max(due + 1 / rate, seconds)
            check_pixels(path, (frame.width, frame.height), MAX_PIXELS, " a frame")
            turned = round(frame.rotation / 90) % 2
            shown = (frame.height, frame.width) if turned else (frame.width, frame.height)
            scale = min(1.0, width / shown[0])
            even = [max(round(side * scale / 2) * 2, 2) for side in shown]
            small = frame.reformat(*(even[::-1] if turned else even), "rgb24")
            # `rotation` is of the frame that was decoded, not of its copy.
            pixels = np.rot90(small.to_ndarray(), round(frame.rotation / 90) % 4)
            yield seconds, np.ascontiguousarray(pixels)


class _Clock:
    """Seconds since the first frame, which never go back."""

    def __init__(self, rate: float) -> None:
        self._step = 1.0 / rate
        self._shift: float | None = None
        self._last: float | None = None

    def read(self, stamp: float | None) -> float:
        """Return the seconds of the next frame, by its timestamp or else by the frame rate."""
        next_one = 0.0 if self._last is None else self._last + self._step
        seconds = next_one if stamp is None or self._shift is None else stamp + self._shift
        if self._last is not None and seconds < self._last:
            if self._last - seconds < _DISORDER:
                return self._last
            # Two recordings were joined, and the second has a clock of its own.
            seconds = next_one
        if stamp is not None:
            self._shift = seconds - stamp
        self._last = seconds
        return seconds


def timestamp(container: Any, frame: Any) -> float | None:
    """Return the seconds of a decoded frame by the file's own clock; None without a timestamp.

    Where frames are stored in another order than they play, AVI mixes up their timestamps; those of
    storing grow as frames play, with a delay of a few frames.
    """
    if container.format.name != "avi":
        return None if frame.time is None else float(frame.time)
    return None if frame.dts is None else float(frame.dts * frame.time_base)


def thumbnail(frame: Any) -> NDArray[np.uint8]:
    """Return a grey copy (45, 80) uint8 of a decoded frame, for comparing frames."""
    return np.asarray(frame.reformat(80, 45, "gray", interpolation="AREA").to_ndarray())


def frame_count(path: Path, file: BinaryIO | None = None) -> int:
    """Count the frames of a video, without decoding them: headers may be wrong."""
    with decoding(path), open_video(Path(path), file) as container:
        return sum(1 for _ in _shown_packets(container))


def _shown_packets(container: Any) -> Iterator[Any]:
    packets = container.demux(container.streams.video[0])
    return (packet for packet in packets if packet.size and not packet.is_discard)


def video_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (width, height) of a video's frames as shown; its first frame is decoded."""
    height, width = read_frame(path, 0, max_pixels).shape[:2]
    return width, height


def frame_rate(path: Path) -> float | None:
    """Return the frames a second of a video, or None where it does not say."""
    with open_video(Path(path)) as container:
        rate = container.streams.video[0].average_rate
        return float(rate) if rate else None


@contextmanager
def open_video(path: Path, file: BinaryIO | None = None) -> Iterator[Any]:
    """Open a video with PyAV, which reads nothing but that file: `file`, or else `path`."""
    with ExitStack() as opened:
        if file is None:
            file = opened.enter_context(open_regular(path, "video"))
        try:
            container = opened.enter_context(av.open(_Readable(file, path), options=_LIMITS))
        except Exception as error:
            if is_of_machine(error):
                raise
            empty = os.fstat(file.fileno()).st_size == 0
            problem = "is empty (0 bytes)" if empty else "is not a video that can be read"
            raise PictureError(f"{path}: {problem} ({cause(error)})") from None
        streams = container.streams.video
        if not streams or streams[0].codec_context is None:
            problem = "is in an unknown codec" if streams else "has no pictures in it"
            raise PictureError(f"{path}: {problem}, expected a video")
        yield container


class _Readable:
    """What PyAV reads; two of them may read one open file, each at a position of its own."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._descriptor, self._at = file.fileno(), 0
        self.name = str(path)  # whose ending helps to tell the format

    def read(self, size: int) -> bytes:
        if hasattr(os, "pread"):  # which leaves the position of the file alone
            data = os.pread(self._descriptor, size, self._at)
        else:  # Windows
            os.lseek(self._descriptor, self._at, os.SEEK_SET)
            data = os.read(self._descriptor, size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        ends = os.fstat(self._descriptor).st_size if whence == os.SEEK_END else 0
        self._at = max(0, offset + (self._at if whence == os.SEEK_CUR else ends))
        return self._at

    def tell(self) -> int:
        return self._at


def _stored_size(container: Any) -> tuple[int, int]:
    context = container.streams.video[0].codec_context
    return int(context.width), int(context.height)


def upright(frame: Any) -> NDArray[np.uint8]:
    """Return a decoded frame as RGB (H, W, 3) uint8, turned as the video asks for."""
    return np.array(_shown(frame), order="C")


def _shown(frame: Any) -> NDArray[np.uint8]:
    """Return an `upright` frame without a copy."""
    plane = frame.reformat(format="rgb24").planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
    picture = rows[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)
    turns = round(frame.rotation / 90) % 4
    return np.rot90(picture, turns) if turns else picture


class _OpenVideos(threading.local):
    """The videos that a thread has open, by process: a forked one must leave its parent's alone."""

    def __init__(self) -> None:
        self._by_process: dict[int, OrderedDict[tuple[str, int, int], Video]] = {}

    def open(self, path: Path) -> Video:
        try:
            status = path.stat()
        except (OSError, ValueError):
            open_regular(path, "video").close()  # its error says why
            raise
        videos = self._by_process.setdefault(os.getpid(), OrderedDict())
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in videos:
            videos[key] = Video(path)
            while len(videos) > _OPEN_AT_ONCE:
                videos.popitem(last=False)[1].close()
        videos.move_to_end(key)
        return videos[key]


_open_videos = _OpenVideos()
