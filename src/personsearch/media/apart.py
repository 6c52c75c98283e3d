"""Decode the files of strangers in processes of their own, so that no file can harm this one.

A file whose decoder crashes, takes too long or wants too much memory is a `PictureError`, and the
next file gets a new decoder. Nothing that comes back is trusted: it is checked numbers and texts,
and pixels as plain bytes.

Decoders are limited in memory, open files and time. They are no sandbox: code that takes one over
has the rights of this process's user. Only Linux has all that is needed; elsewhere, files are
decoded in this process.
"""

import atexit
import itertools
import json
import math
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence, Set
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from personsearch.errors import PersonSearchError, PictureError
from personsearch.media import pictures
from personsearch.media.damage import UnreadNowError
from personsearch.media.decoder import OPERATIONS, SLOT, SLOTS, Answer, receive, send
from personsearch.media.opening import open_regular
from personsearch.media.picture_limit import MAX_PIXELS
from personsearch.media.sampling import Sampling

if sys.platform == "linux":
    import fcntl

PATIENCE = 60.0
"""Seconds in which a decoder has to give the next picture, or a sign that it gets on."""
APART = sys.platform == "linux"
"""Whether this system can decode apart."""

_STARTING, _ENDING = 120.0, 10.0  # seconds until a decoder is ready, and until it has ended
_IDLE = 4  # decoders that wait for the next file
_FILES = 1000  # of one decoder, so that what libraries leak does not add up
_POLL = 0.1  # seconds between checks whether to stop
_KEPT = 64 << 20  # bytes that an idle decoder's file in memory may take
_LONGEST = 1 << 16  # bytes of an answer
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from personsearch.media.decoder import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"
)


def read_picture(
    path: Path, max_pixels: int = MAX_PIXELS, *, inside: Path | str | None = None
) -> NDArray[np.uint8]:
    """Return a picture as `pictures.read_picture` does.

    Here and below, links must not lead out of `inside`; None to follow every link. Errors are those
    of `open_regular`.
    """
    return read_photo(path, max_pixels, inside=inside)[0]


def read_photo(
    path: Path, max_pixels: int = MAX_PIXELS, *, inside: Path | str | None = None
) -> tuple[NDArray[np.uint8], Sequence[Sequence[str]]]:
    """Return a picture and when it was taken, as `pictures.read_photo` does."""
    with open_regular(path, inside=inside) as file:
        facts, pixels = _ask_once("photo", path, file, {"max_pixels": min(max_pixels, MAX_PIXELS)})
    return pixels, facts["taken"]


def decode_picture(
    data: bytes, name: str, max_pixels: int = MAX_PIXELS, *, patience: float = 0.0
) -> NDArray[np.uint8]:
    """Decode a picture in memory, which `name` stands for, in at most `patience` seconds."""
    if not APART:
        return pictures.decode_picture(data, name, max_pixels)
    with _file_in_memory() as file:
        while data:
            data = data[file.write(data) :]
        limit = {"max_pixels": min(max_pixels, MAX_PIXELS)}
        _, pixels = _ask_once("photo", Path(name), file, limit, patience)
    return pixels


def read_frame(path: Path, index: int, *, inside: Path | str | None = None) -> NDArray[np.uint8]:
    """Return a frame of a video, as `video.read_frame` does."""
    with open_regular(path, "video", inside) as file:
        _, pixels = _ask_once("frame", path, file, {"index": index, "max_pixels": MAX_PIXELS})
    return pixels


def first_frame(path: Path) -> tuple[NDArray[np.uint8], int]:
    """Return the first frame of a video, and how many frames it has."""
    with open_regular(path, "video") as file:
        facts, pixels = _ask_once("counted", path, file, {})
    return pixels, facts["index"]


def play(
    path: Path,
    sampling: Sampling,
    known: Set[int] = frozenset(),
    *,
    inside: Path | str | None = None,
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yield the frames of a video that the sampling takes, but those `known`; as `video.play`."""
    with open_regular(path, "video", inside) as file:
        chosen = {"sampling": asdict(sampling), "known": sorted(known)}
        for facts, pixels in _ask("video", path, file, chosen):
            yield facts["index"], facts["seconds"], pixels


def play_part(
    path: Path,
    begin: float,
    end: float,
    *,
    rate: int,
    width: int,
    inside: Path | str | None = None,
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield seconds and pixels of a part of a video, as `video.play_part` does."""
    with open_regular(path, "video", inside) as file:
        part = {"begin": begin, "end": end, "rate": rate, "width": width}
        for facts, pixels in _ask("clip", path, file, part):
            yield facts["seconds"], pixels


def stop_by(event: threading.Event) -> None:
    """Let the event end what this thread decodes, now or later, by an `UnreadNowError`."""
    _own.stop = event


def idle_decoders() -> list[int]:
    """Return the process ids of the decoders that wait for a file."""
    with _lock:
        return [one.process.pid for one in _idle]


def stop_decoders() -> None:
    """End the decoders that wait for a file; the next file starts one again."""
    with _lock:
        ended = _idle[:]
        _idle.clear()
    for one in ended:
        one.close()


class _LostError(Exception):
    """A decoder that cannot be used any more, and why."""


def _ask(
    operation: str, path: Path, file: BinaryIO, arguments: dict[str, Any], patience: float = 0.0
) -> Generator[Answer, None, None]:
    path = Path(path)
    if not APART:
        yield from OPERATIONS[operation](path, file, **arguments)
        return
    decoder, usable = _take(), False
    request = {"operation": operation, "path": str(path), "arguments": arguments}
    try:
        yield from decoder.answers(request, file, patience or PATIENCE)
        usable = True
    except PictureError:
        usable = True
        raise
    except _LostError as error:
        later = decoder.killed_by_others or _stopped()
        kind = UnreadNowError if later else PictureError
        raise kind(f"{path}: {error}") from None
    finally:
        if usable:
            _give(decoder)
        else:
            decoder.close()


def _ask_once(
    operation: str, path: Path, file: BinaryIO, arguments: dict[str, Any], patience: float = 0.0
) -> Answer:
    with closing(_ask(operation, path, file, arguments, patience)) as asked:
        answers = [*itertools.islice(asked, 2)]
    if len(answers) != 1:
        raise PictureError(f"{path}: its decoder gave {len(answers)} pictures, expected one")
    return answers[0]


class _Decoder:
    """A process that decodes, seen from here."""

    def __init__(self) -> None:
        self.files = self._largest = 0
        with ExitStack() as opened:
            self._control, theirs = socket.socketpair()
            opened.enter_context(self._control)
            with theirs, _file_in_memory() as file:
                file.truncate(SLOTS * SLOT)  # of which only what is written takes memory
                # If it could shrink, reading from it could end this process.
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
                self._memory = opened.enter_context(mmap.mmap(file.fileno(), SLOTS * SLOT))
                descriptors = (theirs.fileno(), file.fileno())
                # Not by a fork, which would copy locks that other threads hold.
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _CODE, *map(str, descriptors), json.dumps(sys.path)],
                    stdin=subprocess.PIPE,  # never written to: its end is that of this process
                    stdout=subprocess.DEVNULL,
                    pass_fds=descriptors,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    process_group=0,  # Ctrl-C is for this process
                )
            opened.callback(self._wait)
            opened.callback(self.process.kill)
            opened.enter_context(cast(BinaryIO, self.process.stdin))
            try:
                self._receive(_STARTING)
            except _LostError as error:
                raise PersonSearchError(
                    f"a decoder of pictures cannot be started: {error}"
                ) from None
            self._opened = opened.pop_all()

    def answers(self, request: dict[str, Any], file: BinaryIO, patience: float) -> Iterator[Answer]:
        """Yield what a decoder answers to a request about an open file."""
        self.files += 1
        try:
            self._control.settimeout(patience)
            send(self._control, request, [file.fileno()])
        except TimeoutError:
            raise _LostError("its decoder does not answer") from None
        except ConnectionError:
            pass  # it ended: receiving tells why
        while True:
            answer = self._receive(patience)
            if "end" in answer:
                return
            if "error" in answer:
                raise (UnreadNowError if "later" in answer else PictureError)(str(answer["error"]))
            if "alive" not in answer:
                try:
                    facts, pixels = _facts(answer), self._pixels(answer)
                except (ValueError, TypeError, LookupError):
                    raise _LostError("its decoder gave no sense") from None
                with suppress(ConnectionError):
                    self._control.sendall(b"\0")  # it may overwrite these pixels
                yield facts, pixels

    def _receive(self, patience: float) -> dict[str, Any]:
        answer, until = select.poll(), time.monotonic() + patience
        answer.register(self._control, select.POLLIN)
        try:
            while not (_stopped() or answer.poll(1000 * _POLL)):
                if time.monotonic() > until:
                    raise TimeoutError
            if _stopped():
                raise _LostError("was left because this run stops")
            self._control.settimeout(patience)
            return receive(self._control, _LONGEST)
        except TimeoutError:
            raise _LostError(f"took more than {patience:g} seconds to decode") from None
        except (EOFError, ConnectionError):
            raise _LostError(f"its decoder {self._end()}") from None
        except (ValueError, RecursionError):
            raise _LostError("its decoder gave no sense") from None

    def _end(self) -> str:
        try:
            status = self.process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            return "does not answer"
        if status >= 0:
            return f"ended with status {status}"
        return f"was ended by signal {-status} ({signal.strsignal(-status)})"

    def _wait(self) -> None:
        with suppress(subprocess.TimeoutExpired):  # of a disk that does not answer
            self.process.wait(_ENDING)

    @property
    def killed_by_others(self) -> bool:
        """Whether somebody ended it, such as a system that is short of memory."""
        return self.process.returncode == -signal.SIGKILL

    def _pixels(self, answer: dict[str, Any]) -> NDArray[np.uint8]:
        """Copy pixels (H, W, 3); an impossible answer raises anything."""
        height, width, slot = (int(number) for number in (*answer["shape"], answer["slot"]))
        size = 3 * height * width
        if not (min(height, width) > 0 and size <= SLOT and 0 <= slot < SLOTS):
            raise ValueError("an impossible picture")
        self._largest = max(self._largest, size)
        stored = np.frombuffer(self._memory, np.uint8, size, slot * SLOT)
        return stored.reshape(height, width, 3).copy()

    def rest(self) -> None:
        """Free the memory that large pictures took."""
        if self._largest > _KEPT:
            self._memory.madvise(mmap.MADV_REMOVE)
            self._largest = 0

    def close(self) -> None:
        """End the process."""
        self._opened.close()

    def forget(self) -> None:
        """Leave the process to the one that this one was forked from."""
        self.process.returncode = 0
        self.close()


def _facts(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a picture, of the right types; else raise anything."""
    index, seconds = answer.get("index", 0), float(answer.get("seconds", 0.0))
    taken = [[text[:100] for text in row] for row in answer.get("taken", ())]
    known = isinstance(index, int) and 0 <= index < 2**62 and math.isfinite(seconds)
    if not known or not all(isinstance(text, str) for row in taken for text in row):
        raise ValueError("impossible facts")
    return {"index": index, "seconds": seconds, "taken": [[*row, "", "", ""][:3] for row in taken]}


_idle: list[_Decoder] = []
_lock = threading.Lock()
_own = threading.local()  # `stop` of each thread that has one


def _stopped() -> bool:
    stop: threading.Event | None = getattr(_own, "stop", None)
    return stop is not None and stop.is_set()


def _take() -> _Decoder:
    while True:
        with _lock:
            decoder = _idle.pop() if _idle else None
        if decoder is None:
            return _Decoder()
        if decoder.process.poll() is None:
            return decoder
        decoder.close()


def _give(decoder: _Decoder) -> None:
    decoder.rest()
    with _lock:
        kept = len(_idle) < _IDLE and decoder.files < _FILES
        if kept:
            _idle.append(decoder)
    if not kept:
        decoder.close()


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    for one in _idle:
        one.forget()
    _idle.clear()


def _file_in_memory() -> BinaryIO:
    made = os.memfd_create("personsearch", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    return open(made, "w+b", buffering=0)  # noqa: PTH123


atexit.register(stop_decoders)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
