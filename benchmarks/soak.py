"""Load a server from all sides at once, and count what must not happen.

    python benchmarks/soak.py --minutes 10 --clients 1000

A store of drawn pictures is made and served by a process. Clients search and look at thumbnails,
others upload pictures, some leave before the answer, people are erased over the API and by another
process, pictures are added over the API, and a process indexes a folder and a camera in turn. The
network finds coloured rectangles, so that the service is measured and not a network.

Aims: no answer 5xx, nobody who was erased is shown, no acknowledged row is lost, memory and
descriptors stay bounded, and a client's p95 is less than three times that of an idle server.
"""

import argparse
import asyncio
import csv
import io
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from personsearch.errors import PersonSearchError
from personsearch.store import Filters, ModelIdentity, open_store
from personsearch.web.keys import SCOPES, Keys

MODEL = ModelIdentity("rectangles", "d" * 64, 3)
KEYS = 20
"""Callers; the limit of requests is for each."""
DEADLINE = 60.0  # seconds of one request
UPLOADS, SCALES = 10, (1, 1, 4, 10)


# What is served and indexed.


def rectangles() -> Any:
    """Return a network that finds rectangles that are not grey; they look their colour."""
    import cv2
    import torch

    from personsearch.systems.base import PersonSearchModel
    from personsearch.types import Detections

    class Rectangles(PersonSearchModel):
        embedding_dim = 3

        def forward(self, images: list[Any], targets: list[Any]) -> dict[str, Any]:
            return {}

        def detect(self, images: list[Any]) -> list[Any]:
            found = []
            for image in images:
                coloured = (image.amax(0) - image.amin(0) > 0.2).byte().numpy()
                stats = cv2.connectedComponentsWithStats(coloured)[2][1:]
                rows = stats[stats[:, 4] >= 50][:, :4].astype(np.float32)
                boxes = torch.tensor(np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], 1))
                scores = torch.full((len(boxes),), 0.9)
                found.append(Detections(boxes, scores, self.embed([image], [boxes])[0]))
            return found

        def embed(self, images: list[Any], boxes: list[Any]) -> list[Any]:
            found = []
            for image, some in zip(images, boxes, strict=True):
                middle = ((some[:, :2] + some[:, 2:]) / 2).long()
                rows = image[:, middle[:, 1], middle[:, 0]].T + 1e-3
                found.append(torch.nn.functional.normalize(rows, dim=1))
            return found

    return Rectangles()


@cache
def picture(seed: int, scale: int = 1) -> bytes:
    """Return a PNG of 320 x 200 pixels, or `scale` times that, with three people."""
    generator = np.random.default_rng(seed)
    canvas = np.full((200, 320, 3), 128, np.uint8)
    for x in (20, 120, 220):
        color = generator.integers(0, 256, 3)
        color[generator.permutation(3)[:2]] = (250, 5)
        canvas[60:150, x : x + 36] = color
    written = io.BytesIO()
    image = Image.fromarray(canvas)
    image.resize((320 * scale, 200 * scale), Image.Resampling.NEAREST).save(written, "PNG")
    return written.getvalue()


def serve(store: Path) -> None:
    """Serve a store, and print the port."""
    import uvicorn

    from personsearch.search.archive import open_archive
    from personsearch.web.app import create_app
    from personsearch.web.connections import server_config
    from personsearch.web.listening import listen
    from personsearch.web.service import Settings

    with open_archive(store) as archive, listen("127.0.0.1", 0) as socket:
        archive._network = rectangles()
        app = create_app(archive, Settings(keys_needed=True))
        print(socket.getsockname()[1], flush=True)
        uvicorn.Server(server_config(app)).run(sockets=[socket])


def index(store: Path, folder: Path, camera: str, once: bool = False) -> None:
    """Index a folder and a camera in turn; print the names of files that are acknowledged."""
    from personsearch.indexing.live import index_streams
    from personsearch.indexing.pipeline import index_media
    from personsearch.indexing.writers import open_writer
    from personsearch.media.files import find_media
    from personsearch.media.streams import parse_stream

    network = rectangles()
    while True:
        media, _ = find_media([folder])
        with open_writer(store, MODEL) as writer:
            report = index_media(network, writer, media)
        if once:
            return
        about = {"files": [one.name for one in media], "pictures": report.pictures}
        print(json.dumps(about), flush=True)
        with open_writer(store, MODEL) as writer:
            seen = index_streams(
                network, writer, [parse_stream(camera)], every=0.5, segment=10.0, duration=5.0
            )
        print(json.dumps({"camera": seen.pictures}), flush=True)


@contextmanager
def film(seconds: float) -> Iterator[str]:
    """Serve a camera that shows a film of people again and again; yield its address."""
    import av

    written = io.BytesIO()
    with av.open(written, "w", format="mpegts") as made:
        stream = made.add_stream("mpeg2video", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 200, "yuv420p"
        for number in range(int(10 * seconds)):
            pixels = np.array(Image.open(io.BytesIO(picture(number // 20))))
            made.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        made.mux(stream.encode())
    parts = [written.getvalue()[at : at + 18_800] for at in range(0, written.tell(), 18_800)]

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            with suppress(OSError):
                for part in itertools.cycle(parts):
                    self.wfile.write(part)
                    time.sleep(seconds / len(parts))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/film"
    finally:
        server.shutdown()
        server.server_close()


# What is asked, and what must hold.


@dataclass
class Ledger:
    """What happened, and what must still be true at the end."""

    statuses: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)  # people who may be asked for
    added: set[int] = field(default_factory=set)  # acknowledged over the API
    named: set[int] = field(default_factory=set)  # an erasure was asked for
    erased: dict[int, float] = field(default_factory=dict)  # when it was acknowledged
    erased_at_end: int = 0
    visible: int = 0

    def check(self, people: Iterator[int] | set[int], asked: float) -> None:
        """Count people whose erasure was acknowledged before a request was sent."""
        self.visible += sum(1 for one in people if self.erased.get(one, asked) < asked)


class Client:
    """One connection with a key, opened again where it was closed."""

    def __init__(self, port: int, key: str, ledger: Ledger, name: str) -> None:
        self.port, self.key, self.ledger, self.name = port, key, ledger, name
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, body: object = None, leave: float | None = None
    ) -> tuple[int, bytes]:
        """Return status and body; 0 where there is none. `leave` after so many seconds."""
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        head = (
            f"{method} /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
            f"{self.key}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        began = time.perf_counter()
        for again in (True, False):  # a kept connection may just have been closed
            fresh = self._streams is None
            try:
                async with asyncio.timeout(DEADLINE if leave is None else leave):
                    status, answer = await self._exchange(head.encode() + data)
                break
            except TimeoutError:
                self.close()
                status, answer = (0, b"") if leave is None else (-1, b"")
                break
            except (OSError, asyncio.IncompleteReadError, ValueError):
                self.close()
                status, answer = 0, b""
                if fresh or not again:
                    break
        ledger = self.ledger
        ledger.seconds.setdefault(self.name, []).append(time.perf_counter() - began)
        ledger.statuses["left" if status < 0 else "no answer" if not status else str(status)] += 1
        if status == 0 or status >= 500:
            ledger.failures.append(f"{status} {method} {path}: {answer[:200]!r}")
        return status, answer

    async def _exchange(self, data: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(data)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = (
            int(head.split("content-length: ")[1].split("\r\n")[0])
            if "content-length" in head
            else 0
        )
        body = await reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def search(client: Client, thumbnails: int = 3) -> None:
    """Search by somebody, look at some hits, and now and then take the report."""
    ledger = client.ledger
    candidates = sorted(ledger.known - ledger.named)
    if not candidates:
        return
    began = time.monotonic()
    body = {"people": [random.choice(candidates)], "top": 12}
    status, answer = await client.ask("POST", "search", body)
    if status != 200:
        return
    found = json.loads(answer)
    ids = [int(hit["person"]["id"]) for hit in found["hits"]]
    ledger.check(set(ids), began)
    ledger.known.update(ids)
    for one in ids[:thumbnails]:
        began = time.monotonic()
        status, _ = await client.ask("GET", f"people/{one}/thumbnail")
        if status == 200:
            ledger.check({one}, began)
    if random.random() < 0.2:
        began = time.monotonic()
        path = f"results/{found['result']}/report"
        status, answer = await client.ask("POST", path, {"format": "csv"})
        if status == 200:
            rows = csv.DictReader(io.StringIO(answer.decode()))
            ledger.check({int(row["person"]) for row in rows if row["person"]}, began)


async def upload(client: Client) -> None:
    """Send a query picture, small or large, and search by it; or leave."""
    scale = random.choice(SCALES)
    leave = random.uniform(0.01, 0.2) if random.random() < 0.2 else None
    data = picture(random.randrange(UPLOADS), scale)
    status, answer = await client.ask("POST", "queries", data, leave)
    if status == 201:
        query = json.loads(answer)
        box = query["people"][0]["box"]
        began = time.monotonic()
        example = {"query": query["id"], "box": box}
        status, answer = await client.ask("POST", "search", {"examples": [example]})
        if status == 200:
            hits = json.loads(answer)["hits"]
            client.ledger.check({int(hit["person"]["id"]) for hit in hits}, began)


async def add(client: Client) -> None:
    """Add a picture over the API."""
    number = random.randrange(10**9)
    data = picture(number)
    status, answer = await client.ask("POST", f"pictures?name={number}.png", data)
    if status == 201:
        people = {int(one) for one in json.loads(answer)["people"]}
        client.ledger.added |= people
        client.ledger.known |= people


async def erase(client: Client, store: Path) -> None:
    """Erase somebody over the API, or as another process does."""
    ledger = client.ledger
    candidates = sorted(ledger.known - ledger.named)
    if not candidates:
        return
    one = random.choice(candidates)
    ledger.named.add(one)
    if random.random() < 0.5:
        status, _ = await client.ask("POST", "erase", {"people": [one]})
        done = status == 200
    else:
        command = [sys.executable, __file__, "--role", "erase", "--store", str(store)]
        ran = await asyncio.create_subprocess_exec(*command, "--person", str(one))
        done = await ran.wait() == 0
        ledger.statuses["erased elsewhere" if done else "not erased elsewhere"] += 1
    if done:
        ledger.erased[one] = time.monotonic()


async def every(pause: float, until: float, work: Callable[[], Awaitable[None]]) -> None:
    """Repeat work at random intervals of `pause` seconds on average."""
    wait = random.uniform(0, pause)
    while time.monotonic() + wait < until:
        await asyncio.sleep(wait)
        await work()
        wait = random.uniform(0, 2 * pause)


def process(pid: int) -> dict[str, float]:
    """Return resident memory in MB and open descriptors."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = int(status.split("VmRSS:")[1].split()[0])
    return {"mb": kilobytes / 1024, "descriptors": len([*Path(f"/proc/{pid}/fd").iterdir()])}


def p(values: list[float], share: float) -> float:
    """Return a quantile in milliseconds."""
    return 1e3 * sorted(values)[int(share * (len(values) - 1))] if values else float("nan")


async def soak(given: argparse.Namespace, folder: Path, port: int, pid: int) -> dict[str, Any]:
    """Load the server and return what was measured."""
    store, ledger = folder / "store", Ledger()
    with open_store(store) as opened:
        ledger.known.update(opened.ids_after(0, 10_000))
    secrets = [Keys(store).make(f"key{number}", SCOPES) for number in range(KEYS)]
    for number, scale in itertools.product(range(UPLOADS), SCALES):
        picture(number, scale)  # drawn before anything is timed
    probe = Client(port, secrets[0], ledger, "idle")
    idle_until = time.monotonic() + min(10.0, 6 * given.minutes)
    await search(probe)  # loads what the first search needs
    ledger.seconds.clear()
    await every(0.05, idle_until, lambda: search(probe))
    memory = [process(pid)]
    until = time.monotonic() + 60 * given.minutes
    probe.name = "loaded"
    work = [every(0.2, until, lambda: search(probe))]
    for number in range(given.clients):
        client = Client(port, secrets[number % KEYS], ledger, "clients")
        # A search is about five requests.
        pause = 5 * given.clients / given.rate
        work.append(every(pause, until, lambda client=client: search(client)))  # type: ignore[misc]
    jobs: list[tuple[float, Callable[[Client], Awaitable[None]]]] = [
        *[(1.0, upload)] * 6,
        *[(1.0, add)] * 2,
        (2.0, lambda client: erase(client, store)),
    ]
    for number, (pause, job) in enumerate(jobs):
        client = Client(port, secrets[number % KEYS], ledger, "uploads and erasures")
        work.append(every(pause, until, lambda c=client, j=job: j(c)))  # type: ignore[misc]

    async def watch() -> None:
        while time.monotonic() < until:
            await asyncio.sleep(1.0)
            memory.append(process(pid))
            name = folder / "photos" / f"{len(memory)}.png"
            name.write_bytes(picture(10_000 + len(memory)))

    await asyncio.gather(watch(), *work)
    _, answer = await probe.ask("GET", "audit/check")
    return {"ledger": ledger, "memory": memory, "audit": json.loads(answer)}


def summary(found: dict[str, Any], store: Path, acknowledged: set[str]) -> dict[str, Any]:
    """Compare with the store, and return plain figures."""
    ledger, memory = found["ledger"], found["memory"]
    with open_store(store) as opened:
        there = set(opened.ids_after(0, 10**9))
        files = opened.known_files(str(store.parent / "photos"))
        damage = opened.damage()
    complete = {name for name, file in files.items() if file.state == "whole"}
    seconds = ledger.seconds
    figures = {
        name: {"requests": len(rows), "p50_ms": p(rows, 0.5), "p95_ms": p(rows, 0.95)}
        for name, rows in seconds.items()
    }
    return {
        "statuses": dict(sorted(ledger.statuses.items())),
        "failures": ledger.failures[:20],
        "seconds": figures,
        "p95_ratio": figures["loaded"]["p95_ms"] / figures["idle"]["p95_ms"],
        "memory_mb": {
            "start": memory[0]["mb"],
            "middle": memory[len(memory) // 2]["mb"],
            "end": memory[-1]["mb"],
            "most": max(one["mb"] for one in memory),
        },
        "descriptors": {
            "start": memory[0]["descriptors"],
            "end": memory[-1]["descriptors"],
            "most": max(one["descriptors"] for one in memory),
        },
        "erased": len(ledger.erased),
        "erased_still_visible": ledger.visible + len(ledger.erased.keys() & there),
        "lost": len(ledger.added - ledger.named - there) + len(acknowledged - complete),
        "audit": found["audit"]["problem"] or "whole",
        "damage": damage or "none",
    }


def run(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the store, start the processes, and return the figures."""
    store, photos = folder / "store", folder / "photos"
    photos.mkdir()
    for number in range(given.pictures):
        (photos / f"first{number}.png").write_bytes(picture(number))
    index(store, photos, "", once=True)
    here = [sys.executable, __file__, "--store", str(store)]
    with film(5.0) as camera, (folder / "indexer").open("w+") as lines:
        server = subprocess.Popen([*here, "--role", "serve"], stdout=subprocess.PIPE, text=True)
        indexer = subprocess.Popen(
            [*here, "--role", "index", "--photos", str(photos), "--camera", camera], stdout=lines
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            found = asyncio.run(soak(given, folder, port, server.pid))
        finally:
            for one in (indexer, server):
                one.send_signal(signal.SIGTERM)
            for one in (indexer, server):
                try:
                    one.wait(30)
                except subprocess.TimeoutExpired:
                    one.kill()
        lines.seek(0)
        told = [json.loads(line) for line in lines if line.endswith("}\n")]
    acknowledged = {name for line in told for name in line.get("files", ())}
    figures = summary(found, store, acknowledged)
    camera_pictures = sum(line.get("camera", 0) for line in told)
    return figures | {"indexed_files": len(acknowledged), "camera_pictures": camera_pictures}


def main() -> int:
    """Print figures as text or JSON; return 1 where something happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second of all clients")
    parser.add_argument("--pictures", type=int, default=100, help="pictures in the store at first")
    parser.add_argument("--json", action="store_true")
    for name in ("role", "store", "photos", "camera", "person"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "serve":
        serve(Path(given.store))
    elif given.role == "index":
        index(Path(given.store), Path(given.photos), given.camera)
    elif given.role == "erase":
        try:
            with open_store(given.store, write=True) as store:
                store.erase(Filters(people=[int(given.person)]))
        except PersonSearchError as error:
            print(error, file=sys.stderr)
            return 1
    if given.role:
        return 0
    folder = Path(tempfile.mkdtemp())
    try:
        figures = run(given, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures) if given.json else json.dumps(figures, indent=1))
    bad = [status for status in figures["statuses"] if status.startswith(("5", "no answer"))]
    held = not figures["erased_still_visible"] and not figures["lost"]
    whole = figures["audit"] == "whole" and figures["damage"] == "none"
    return 0 if held and whole and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
