"""An HTTP server on this machine that serves bytes from memory, and misbehaves as told."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Loopback:
    """What is served, and what came.

    Attributes:
        files: content by path, without the leading slash.
        cuts: of the next answers, after how many bytes each ends early.
        ranges: whether parts of a file can be asked for.
        shift: how many bytes before the wanted one a part begins.
        asked: path and Range header of every request.
        address: where it listens.
    """

    files: Mapping[str, bytes]
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    shift: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""


@contextmanager
def loopback(files: Mapping[str, bytes], **behaviour: object) -> Iterator[Loopback]:
    """Serves `files` until the block ends."""
    state = Loopback(files, **behaviour)  # type: ignore[arg-type]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append((self.path.lstrip("/"), wanted))
            content = state.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            start = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", wanted)) else 0
            if start and state.ranges and start >= len(content):
                self.send_error(416)
                return
            if start and state.ranges:
                start -= state.shift
                self.send_response(206)
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            else:
                start = 0
                self.send_response(200)
            rest = content[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: state.cuts.pop(0)] if state.cuts else rest)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
