"""A camera on this machine: sends an MPEG-TS in real time, over HTTP or RTSP, and breaks off."""

import base64
import io
import socketserver
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np

FRAMES_A_SECOND = 25


def transport_stream(frames: int, colors: Sequence[tuple[int, int, int]]) -> list[bytes]:
    """An MPEG-TS of a still picture with blocks as `blocks.Blocks` finds them, frame by frame."""
    canvas = np.zeros((32, 64, 3), np.uint8)
    for x, color in zip((0, 20, 40), colors, strict=False):
        canvas[:20, x : x + 10] = color
    parts: list[bytes] = []
    written = io.BytesIO()
    with av.open(written, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=FRAMES_A_SECOND)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.options = {"g": "5", "qscale": "2"}
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
            parts.append(written.getvalue())
            written.seek(0)
            written.truncate()
        container.mux(stream.encode())
    parts.append(written.getvalue())
    return [part for part in parts if part]


@dataclass
class Broadcast:
    """What is sent, and who asked.

    Attributes:
        shows: how many frames a connection sends before it breaks off. Negative: nothing is sent,
            and the connection stays open.
        colors: of the people who stand there.
        asked: requests that came, with their credentials.
        address: without them.
    """

    shows: int
    colors: Sequence[tuple[int, int, int]] = ((255, 0, 0), (0, 255, 0))
    asked: list[str] = field(default_factory=list)
    address: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def parts(self) -> Iterator[bytes]:
        """A connection's, in real time."""
        if self.shows < 0:
            self.over.wait(100)
            return
        for part in transport_stream(self.shows, self.colors):
            yield part
            time.sleep(1 / FRAMES_A_SECOND)
            if self.over.is_set():
                return


@contextmanager
def over_http(shows: int) -> Iterator[Broadcast]:
    """A camera that wants user ``anna`` with password ``s3cret-word``."""
    state = Broadcast(shows)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            state.asked.append(given)
            if given != "Basic " + base64.b64encode(b"anna:s3cret-word").decode():
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            with suppress(OSError):
                for part in state.parts():
                    self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler), state) as port:
        state.address = f"http://127.0.0.1:{port}/live/1"
        yield state


SDP = """v=0\r
o=- 0 0 IN IP4 127.0.0.1\r
s=camera\r
c=IN IP4 0.0.0.0\r
t=0 0\r
m=video 0 RTP/AVP 33\r
a=control:track1\r
"""


@contextmanager
def over_rtsp(shows: int) -> Iterator[Broadcast]:
    """The same over RTSP, in packets of RTP within the one connection."""
    state = Broadcast(shows)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while lines := self._request():
                    self._answer(lines)

        def _request(self) -> list[str]:
            lines: list[str] = []
            while (line := self.rfile.readline().decode().strip()) or not lines:
                if not line:
                    return []
                lines.append(line)
            return lines

        def _answer(self, lines: list[str]) -> None:
            method = lines[0].split()[0]
            head = dict(line.split(": ", 1) for line in lines[1:])
            number = head["CSeq"]
            given = head.get("Authorization", "")
            if method == "DESCRIBE":
                state.asked.append(given)
            if method != "OPTIONS":
                expected = "Basic " + base64.b64encode(b"anna:s3cret-word").decode()
                if given != expected:
                    self._say("401 Unauthorized", number, 'WWW-Authenticate: Basic realm="camera"')
                    return
            if method == "OPTIONS":
                self._say("200 OK", number, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif method == "DESCRIBE":
                self._say("200 OK", number, "Content-Type: application/sdp", body=SDP)
            elif method == "SETUP":
                transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
                self._say("200 OK", number, transport, "Session: 1")
            elif method == "PLAY":
                self._say("200 OK", number, "Session: 1")
                self._play()
                raise ConnectionAbortedError
            else:
                self._say("200 OK", number)

        def _say(self, status: str, number: str, *lines: str, body: str = "") -> None:
            head = [f"RTSP/1.0 {status}", f"CSeq: {number}", *lines]
            if body:
                head.append(f"Content-Length: {len(body)}")
            self.wfile.write(("\r\n".join(head) + "\r\n\r\n" + body).encode())

        def _play(self) -> None:
            sequence = 0
            began = time.monotonic()
            for part in state.parts():
                for k in range(0, len(part), 7 * 188):
                    payload = part[k : k + 7 * 188]
                    stamp = int(90_000 * (time.monotonic() - began)) % 2**32
                    head = struct.pack(">BBHII", 0x80, 33, sequence % 2**16, stamp, 7)
                    sequence += 1
                    packet = head + payload
                    self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with _serving(Server(("127.0.0.1", 0), Handler), state) as port:
        state.address = f"rtsp://127.0.0.1:{port}/live/1"
        yield state


@contextmanager
def _serving(server: socketserver.TCPServer, state: Broadcast) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        state.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
