"""Live sources: cameras and streams at an address, read for ever, connected again when they break.

Passwords are in the address that is opened, and nowhere else: what is stored, shown or logged is
the address without them. Certificates of https and rtsps are not checked, since cameras sign their
own: over a network that is not trusted, a camera's password needs a tunnel.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

import av

from personsearch.errors import DataError, PictureError
from personsearch.media.files import Frame
from personsearch.media.picture_limit import MAX_PIXELS, check_pixels
from personsearch.media.sampling import Sampling
from personsearch.media.video import glance, upright

SCHEMES = ("rtsp", "rtsps", "http", "https")
"""How the address of a live source begins."""

_PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto,rtp,srtp,udp,rtsp"
# Values of a query that say which picture is meant, not who asks for it.
_HARMLESS = ("channel", "subtype", "stream", "camera", "profile", "resolution", "fps", "unicast")


@dataclass(frozen=True)
class Stream:
    """A live source.

    Attributes:
        address: what is opened, with its password; never shown.
        place: the address without user, password, and values of the query that may be secrets.
        camera: whose pictures they are.
    """

    address: str = field(repr=False)
    place: str
    camera: str


@dataclass(frozen=True)
class Patience:
    """When a live source counts as broken, and when it is tried again.

    Attributes:
        stall: seconds without data after which a connection is given up.
        pause: seconds before the first try to connect again; each later pause is twice as long.
        longest: seconds of the longest pause.
    """

    stall: float = 10.0
    pause: float = 1.0
    longest: float = 60.0


@dataclass
class StreamReport:
    """What became of a live source.

    Attributes:
        place: as in `Stream`.
        camera: whose.
        pictures: that were looked at.
        dropped: that came while the network was busy and gave way to newer ones.
        connections: how often it began to send.
        breaks: how often it could not be reached, stalled or ended.
        reasons: of the breaks, and how many each has to answer for.
    """

    place: str
    camera: str
    pictures: int = 0
    dropped: int = 0
    connections: int = 0
    breaks: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


def is_stream(source: str) -> bool:
    """Whether a source is the address of a live one, not a file or folder."""
    return source.split("://", 1)[0].lower() in SCHEMES and "://" in source


def parse_stream(address: str, camera: str | None = None) -> Stream:
    """A live source by its address.

    Args:
        address: ``rtsp``, ``rtsps``, ``http`` or ``https``.
        camera: whose; None for host and path.

    Raises:
        DataError: it is no such address. The message does not show it, since it may hold a
            password.
    """
    try:
        parts = urlsplit(address)
        place = _without_secrets(parts)
    except ValueError as error:
        raise DataError(
            f"the address of a stream cannot be read ({type(error).__name__})"
        ) from None
    if parts.scheme.lower() not in SCHEMES or not parts.hostname:
        expected = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise DataError(f"the address of a stream came without a host, expected {expected} and one")
    named = f"{parts.hostname}{parts.path}".rstrip("/")
    return Stream(address, place, camera or named)


def parse_streams(addresses: Sequence[str], camera: str | None = None) -> list[Stream]:
    """Live sources by their addresses.

    Raises:
        DataError: as `parse_stream`; or two that differ by secrets alone.
    """
    streams = [parse_stream(address, camera) for address in addresses]
    places = [one.place for one in streams]
    if twice := [place for place in places if places.count(place) > 1]:
        raise DataError(f"{twice[0]}: came twice, or twice with other secrets; name it once")
    return streams


def _without_secrets(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None else ""
    query = "&".join(
        f"{name}={value}" if name.lower() in _HARMLESS else name
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    return f"{parts.scheme.lower()}://{host}{port}{parts.path}" + (f"?{query}" if query else "")


class Newest:
    """The newest picture of each live source: an older one that nobody has taken gives way."""

    def __init__(self) -> None:
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._changed = threading.Condition()

    def put(self, source: int, frame: Frame) -> bool:
        """Shows a picture of a source; says whether an older one gave way."""
        with self._changed:
            gave_way = source in self._frames
            self._frames[source] = frame
            self._changed.notify()
        return gave_way

    def take(self, patience: float) -> tuple[int, Frame] | None:
        """A source and its picture, the longest waiting source first; None if none comes in time.

        Args:
            patience: seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames, patience)
            return self._frames.popitem(last=False) if self._frames else None


class StreamReader:
    """A thread that reads a live source until it is told to stop.

    Frames have the number of the decoded frame as index, seconds since the reader began as
    position, and the time at which they arrived.

    Args:
        stream: which.
        number: by which `newest` knows it.
        newest: takes the frames.
        report: is kept up to date.
        sampling: which frames; seconds are those of this machine's clock.
        patience: with breaks.
        stop: ends it, when set.
    """

    def __init__(
        self,
        stream: Stream,
        number: int,
        newest: Newest,
        report: StreamReport,
        *,
        sampling: Sampling,
        patience: Patience,
        stop: threading.Event,
    ) -> None:
        self._stream, self._number, self._newest, self._report = stream, number, newest, report
        self._patience, self._stop = patience, stop
        self._wanted, self._index = sampling.chooser(), -1
        self._clock = time.monotonic()
        self._came = False
        self.thread = threading.Thread(target=self._read, name=stream.place, daemon=True)

    def _read(self) -> None:
        pause = self._patience.pause
        while not self._stop.is_set():
            self._came = False
            try:
                self._connect()
                reason = "ended"
            except PictureError as error:
                reason = str(error)
            except (av.FFmpegError, OSError, ValueError) as error:
                # The whole message holds the address, and so the password.
                reason = _told(error)
            if self._stop.is_set():
                return
            self._report.breaks += 1
            self._report.reasons[reason] = self._report.reasons.get(reason, 0) + 1
            if self._came:
                pause = self._patience.pause
            self._stop.wait(pause)
            pause = min(2.0 * pause, self._patience.longest)

    def _connect(self) -> None:
        options = {"protocol_whitelist": _PROTOCOLS}
        if self._stream.address.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        limits = (self._patience.stall, self._patience.stall)
        with av.open(self._stream.address, options=options, timeout=limits) as container:
            if not container.streams.video:
                raise PictureError("has no pictures in it, expected a video stream")
            video = container.streams.video[0]
            # Threads over frames would hold frames back.
            video.thread_type = "SLICE"
            for packet in container.demux(video):
                if self._stop.is_set():
                    return
                try:
                    frames = packet.decode()
                except (av.FFmpegError, OSError, ValueError):
                    continue  # what is damaged on its way is left out
                for frame in frames:
                    self._take(frame)

    def _take(self, frame: av.VideoFrame) -> None:
        if not self._came:
            self._came = True
            self._report.connections += 1
        self._index += 1
        seconds = time.monotonic() - self._clock
        if not self._wanted(self._index, seconds, partial(glance, frame)):
            return
        check_pixels(Path(self._stream.camera), (frame.width, frame.height), MAX_PIXELS, " a frame")
        taken = Frame(upright(frame), self._index, seconds, time.time())
        if self._newest.put(self._number, taken):
            self._report.dropped += 1


def _told(error: Exception) -> str:
    """What went wrong, without the address."""
    if isinstance(error, av.error.ExitError | TimeoutError):
        return "sent nothing for too long"
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return "refuses this user or password"
    return getattr(error, "strerror", None) or type(error).__name__
