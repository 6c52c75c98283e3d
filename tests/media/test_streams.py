"""Addresses of live sources: what is opened, what is shown, and what is neither."""

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event

import numpy as np
import pytest

from personsearch.errors import DataError
from personsearch.media.files import Frame
from personsearch.media.sampling import Sampling
from personsearch.media.streams import (
    Newest,
    Patience,
    StreamReader,
    StreamReport,
    is_stream,
    parse_stream,
    parse_streams,
)


@pytest.mark.parametrize(
    ("address", "uri", "camera"),
    [
        ("rtsp://cam/live/1", "rtsp://cam/live/1", "cam/live/1"),
        ("rtsp://anna:s3cret@10.0.0.7:554/live", "rtsp://10.0.0.7:554/live", "10.0.0.7/live"),
        ("RTSPS://s3cret@Cam/", "rtsps://cam/", "cam"),
        ("rtsp://anna:s3:@cret@cam/x", "rtsp://cam/x", "cam/x"),
        ("http://[::1]:80/v?channel=2&subtype=0", "http://[::1]:80/v?channel=2&subtype=0", "::1/v"),
        ("https://c/v?user=a&pwd=s3cret&token=s3cret", "https://c/v?user&pwd&token", "c/v"),
        ("http://cam/v#s3cret", "http://cam/v", "cam/v"),
    ],
)
def test_secrets_are_opened_and_never_shown(address: str, uri: str, camera: str) -> None:
    stream = parse_stream(address)
    assert (stream.address, stream.uri, stream.camera) == (address, uri, camera)
    assert "s3cret" not in repr(stream)
    assert "s3cret" not in uri
    assert parse_stream(address, "gate").camera == "gate"


@pytest.mark.parametrize(
    "address", ["rtsp://", "http://anna:s3cret@/x", "rtsp://u:s3cret@h:port/", "http://[s3cret/"]
)
def test_what_is_no_address_says_so_without_secrets(address: str) -> None:
    with pytest.raises(DataError, match="the address of a stream") as caught:
        parse_stream(address)
    assert "s3cret" not in str(caught.value)


def test_the_same_camera_twice() -> None:
    with pytest.raises(DataError, match="rtsp://cam/1: given twice") as caught:
        parse_streams(["rtsp://cam/1", "rtsp://a:s3cret@cam/1"])
    assert "s3cret" not in str(caught.value)
    assert len(parse_streams(["rtsp://cam/1", "rtsp://cam/2"])) == 2


def test_what_is_live() -> None:
    assert all(is_stream(one) for one in ("rtsp://a", "HTTP://a", "https://a", "rtsps://a"))
    assert not any(
        is_stream(one) for one in ("photos", "rtsp", "/a/http://b", "file:///x", "ftp://a")
    )


def test_the_newest_picture_is_taken_and_every_source_has_its_turn() -> None:
    def frame(index: int) -> Frame:
        return Frame(np.zeros((2, 2, 3), np.uint8), index, 0.0, 0.0)

    newest, gate, hall = Newest(), parse_stream("rtsp://gate"), parse_stream("rtsp://hall")
    assert newest.take(0.01) is None
    replaced = [newest.put(one, frame(k)) for k, one in enumerate((gate, hall, gate))]
    assert replaced == [False, False, True]
    taken = [newest.take(0.01), newest.take(0.01), newest.take(0.01)]
    assert [one and (one[0], one[1].index) for one in taken] == [(gate, 2), (hall, 1), None]


class _Odd(BaseHTTPRequestHandler):
    """A camera that names another address, by a redirect or in a playlist, or sends nonsense."""

    def do_GET(self) -> None:
        asked: list[str] = self.server.asked  # type: ignore[attr-defined]
        asked.append(self.path)
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/internal")
            self.end_headers()
        elif self.path == "/nonsense":
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b"--b\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8no JPEG\r\n")
                    time.sleep(0.01)
        else:
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
            self.end_headers()
            self.wfile.write(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/internal\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/redirect", "if it redirects"),
        ("/list.m3u8", "of a playlist"),
        ("/nonsense", "cannot be decoded"),
    ],
)
def test_a_camera_chooses_no_other_address_and_says_what_is_wrong(path: str, reason: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Odd) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stream, stop = parse_stream(f"http://127.0.0.1:{server.server_port}{path}"), Event()
        report = StreamReport(stream.uri, stream.camera)
        patience = Patience(stall=5.0, pause=0.01, blind=0.5)
        reader = StreamReader(stream, Newest(), report, Sampling(), patience, stop)
        reader.thread.start()
        until = time.monotonic() + 20
        while not report.breaks and time.monotonic() < until:
            time.sleep(0.01)
        stop.set()
        reader.thread.join()
        server.shutdown()
    assert any(reason in one for one in report.reasons), report.reasons
    assert set(server.asked) == {path}  # type: ignore[attr-defined]
