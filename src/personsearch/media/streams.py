"""Live sources: read cameras and streams at an address for ever, and reconnect when they break.

Passwords are in the address that is opened, and nowhere else: what is stored, shown or logged is
the address without them. Certificates of https and rtsps are not checked, since cameras sign their
own: over a network that is not trusted, a camera's password needs a tunnel.
"""

import errno
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
from personsearch.media.video import thumbnail, upright

SCHEMES = ("rtsp", "rtsps", "http", "https")  # schemes of the addresses of live sources

# No camera chooses which address is opened: redirects are not followed, and playlists, which name
# further addresses, are not read.
_LIMITS = {
    "protocol_whitelist": "http,https,httpproxy,tcp,tls,crypto,rtp,srtp,udp,rtsp",
    "format_whitelist": "asf,avi,flv,h264,hevc,ivf,jpeg_pipe,matroska,mjpeg,mov,mpeg,mpegts,"
    "mpegvideo,mpjpeg,ogg,rtp,rtsp,sdp,webm",
}
_HTTP_LIMITS = {"max_redirects": "0"}
# What FFmpeg reports where one of these limits holds.
_HINTS = {
    errno.EIO: "cannot be read; if it redirects, give the address that it redirects to",
    errno.EINVAL: "sends a format that is not read; of a playlist, give the stream's own address",
}
# Query parameters that choose a picture and hold no secret.
_HARMLESS = ("channel", "subtype", "stream", "camera", "profile", "resolution", "fps", "unicast")


@dataclass(frozen=True)
class Stream:
    """A live source."""

    address: str = field(repr=False)  # as it is opened, with its password; never shown
    uri: str  # the address without user, password, and query values that may be secrets
    camera: str


@dataclass(frozen=True)
class Patience:
    """When a live source counts as broken, and when to reconnect, in seconds."""

    stall: float = 10.0  # without data, after which a connection is given up
    pause: float = 1.0  # before the first try to reconnect; each later pause is twice as long
    longest: float = 60.0  # pause
    blind: float = 60.0  # with data, but no picture that can be decoded; keyframes come more often


@dataclass
class StreamReport:
    """Counts of one live source."""

    uri: str
    camera: str
    pictures: int = 0
    dropped: int = 0  # pictures that newer ones replaced while the network was busy
    connections: int = 0  # how often it began to send
    breaks: int = 0  # how often it could not be reached, stalled or ended
    reasons: dict[str, int] = field(default_factory=dict)  # number of breaks of each


def is_stream(source: str) -> bool:
    """Whether a source is the address of a live one, not a file or folder."""
    return source.split("://", 1)[0].lower() in SCHEMES and "://" in source


def parse_stream(address: str, camera: str | None = None) -> Stream:
    """Parse the address of a live source; without a camera's name, it is host and path.

    Raises:
        DataError: it is no such address; not shown, since it may hold a password.
    """
    try:
        parts = urlsplit(address)
        uri = _without_secrets(parts)
    except ValueError as error:
        kind = type(error).__name__
        raise DataError(f"the address of a stream cannot be parsed ({kind})") from None
    if parts.scheme.lower() not in SCHEMES or not parts.hostname:
        expected = ", ".join(f"{scheme}://HOST" for scheme in SCHEMES)
        raise DataError(f"the address of a stream has no host; expected {expected}")
    return Stream(address, uri, camera or f"{parts.hostname}{parts.path}".rstrip("/"))


def parse_streams(addresses: Sequence[str], camera: str | None = None) -> list[Stream]:
    """Parse the addresses of several live sources.

    Raises:
        DataError: as `parse_stream`; or two differ by secrets alone.
    """
    streams = [parse_stream(address, camera) for address in addresses]
    uris = [one.uri for one in streams]
    if twice := [uri for uri in uris if uris.count(uri) > 1]:
        raise DataError(f"{twice[0]}: given twice, or twice with other secrets; give it once")
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
    """Holds the newest picture of each live source; a newer one replaces it."""

    def __init__(self) -> None:
        self._frames: OrderedDict[Stream, Frame] = OrderedDict()
        self._changed = threading.Condition()

    def put(self, stream: Stream, frame: Frame) -> bool:
        """Set the picture of a source; return whether it replaced one that nobody took."""
        with self._changed:
            replaced = stream in self._frames
            self._frames[stream] = frame
            self._changed.notify()
        return replaced

    def take(self, patience: float) -> tuple[Stream, Frame] | None:
        """Take the picture of the source that waits longest; None if none comes in `patience` s."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames, patience)
            return self._frames.popitem(last=False) if self._frames else None


@dataclass(eq=False)
class StreamReader:
    """A thread that reads a live source into `newest` until `stop` is set.

    Frames have the number of the decoded frame as index, seconds since the reader began as
    position, and the time at which they arrived. Sampling is by this machine's clock.
    """

    stream: Stream
    newest: Newest
    report: StreamReport
    sampling: Sampling
    patience: Patience
    stop: threading.Event

    def __post_init__(self) -> None:
        self._wanted, self._index = self.sampling.chooser(), -1
        self._began, self._connected = time.monotonic(), False
        self.thread = threading.Thread(target=self._read, name=self.stream.uri, daemon=True)

    def _read(self) -> None:
        pause = self.patience.pause
        while not self.stop.is_set():
            self._connected = False
            try:
                self._connect()
                reason = "ended"
            except PictureError as error:
                reason = str(error)
            except Exception as error:
                reason = _reason(error)
            if self.stop.is_set():
                return
            self.report.breaks += 1
            self.report.reasons[reason] = self.report.reasons.get(reason, 0) + 1
            if self._connected:
                pause = self.patience.pause
            self.stop.wait(pause)
            pause = min(2.0 * pause, self.patience.longest)

    def _connect(self) -> None:
        rtsp = self.stream.address.lower().startswith("rtsp")
        options = _LIMITS | ({"rtsp_transport": "tcp"} if rtsp else _HTTP_LIMITS)
        limits = (self.patience.stall, self.patience.stall)
        with av.open(self.stream.address, options=options, timeout=limits) as container:
            if not container.streams.video:
                raise PictureError("has no pictures in it, expected a video stream")
            video = container.streams.video[0]
            # Threads over frames would hold frames back.
            video.thread_type = "SLICE"
            decoded = time.monotonic()
            for packet in container.demux(video):
                if self.stop.is_set():
                    return
                try:
                    frames = packet.decode()
                except Exception:
                    frames = []  # a part that was damaged on its way is left out
                for frame in frames:
                    self._take(frame)
                if frames:
                    decoded = time.monotonic()
                elif time.monotonic() - decoded > self.patience.blind:
                    raise PictureError("sends pictures that cannot be decoded")

    def _take(self, frame: av.VideoFrame) -> None:
        if not self._connected:
            self._connected = True
            self.report.connections += 1
        self._index += 1
        seconds = time.monotonic() - self._began
        if not self._wanted(self._index, seconds, partial(thumbnail, frame)):
            return
        check_pixels(Path(self.stream.camera), (frame.width, frame.height), MAX_PIXELS, " a frame")
        taken = Frame(upright(frame), self._index, seconds, time.time())
        if self.newest.put(self.stream, taken):
            self.report.dropped += 1


def _reason(error: Exception) -> str:
    """Describe an error without its whole message, which holds the address and its password."""
    if isinstance(error, av.error.ExitError | TimeoutError):
        return "sent nothing for too long"
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return "refuses this user or password"
    if (number := getattr(error, "errno", None)) in _HINTS:
        return _HINTS[number]
    return getattr(error, "strerror", None) or type(error).__name__
