"""Download a file of known length and checksum; interrupted downloads resume.

Until it is verified, the file is named ``NAME.part``.
"""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from personsearch.durable import sync
from personsearch.errors import ModelError

Progress = Callable[[int, int], None]  # called with (bytes downloaded, bytes in total)

ATTEMPTS = 5  # to connect, before a cut connection is an error
_BLOCK = 1 << 16
_OTHER_FILE = (
    "The server has another file than this version of personsearch expects, or it was changed in "
    "transit: try --mirror, or a newer version"
)


@dataclass(frozen=True)
class Expected:
    """Length and checksum of a file."""

    size: int  # bytes
    algorithm: Literal["sha256", "sha384"]
    digest: str  # hexadecimal

    def problem(self, path: Path) -> str:
        """Describe what is wrong with a file; empty if nothing is.

        Raises:
            OSError: it cannot be read.
        """
        size = path.stat().st_size
        if size != self.size:
            return f"has {size:,} bytes, expected {self.size:,}"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, self.algorithm).hexdigest()
        if digest != self.digest:
            return f"{self.algorithm} is {digest}, expected {self.digest}"
        return ""


def download(
    url: str,
    target: Path,
    expected: Expected,
    *,
    progress: Progress | None = None,
    timeout: float = 30.0,  # seconds without data after which a connection counts as cut
    pause: float = 1.0,  # seconds before the next attempt to connect, doubled each time
) -> None:
    """Download `url` to the file `target`, unless it is there already; make its folder.

    Raises:
        ModelError: no such file on the server, no connection, a connection that is cut again and
            again, or unexpected bytes. A partial download is kept for the next call; a wrong one is
            deleted.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ModelError(f"{url}: expected an address that starts with http:// or https://")
    if target.is_file() and not expected.problem(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with _alone(part) as file:
        for attempt in range(ATTEMPTS):
            began = file.seek(0, os.SEEK_END)
            if began >= expected.size:
                break
            try:
                _fetch(url, file, expected.size, progress, timeout)
                break
            except urllib.error.HTTPError as error:
                if error.code != 416:
                    raise ModelError(
                        f"{url}: the server says {error.code} {error.reason}; try later, or "
                        "--mirror, or download the file elsewhere and give its folder with --from"
                    ) from None
                part.unlink()
                raise ModelError(
                    f"{url}: ends before byte {began:,}, expected {expected.size:,} bytes; the "
                    f"partial download was deleted. {_OTHER_FILE}"
                ) from None
            except (OSError, http.client.HTTPException) as error:
                here = file.seek(0, os.SEEK_END)
                nowhere = isinstance(error, urllib.error.URLError) and not here
                if attempt == ATTEMPTS - 1 or nowhere:
                    raise ModelError(_cut(url, error, here, expected.size)) from None
                time.sleep(pause * 2**attempt)
        file.flush()
        os.fsync(file.fileno())
        if wrong := expected.problem(part):
            part.unlink()
            raise ModelError(f"{url}: {wrong}; it was deleted. {_OTHER_FILE}")
        part.replace(target)
    sync(target.parent)


def _fetch(url: str, file: BinaryIO, size: int, progress: Progress | None, timeout: float) -> None:
    """Append the rest of the file, or start again if the server cannot resume."""
    here = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"User-Agent": "personsearch"})
    if here:
        request.add_header("Range", f"bytes={here}-")
    with urllib.request.urlopen(request, timeout=timeout) as response:
        sent = response.headers.get("Content-Range", "")
        if here and not (response.status == 206 and sent.startswith(f"bytes {here}-")):
            file.truncate(0)
            here = file.seek(0)
            if response.status == 206:
                raise ConnectionError("the server sent another range than requested")
        if progress:
            progress(here, size)
        # None if the server does not state the length.
        last = None if response.length is None else here + response.length
        while block := response.read(_BLOCK):
            file.write(block)
            here += len(block)
            if progress:
                progress(min(here, size), size)
            if here > size:
                return
    if here < (size if last is None else last):
        raise ConnectionError(f"it ended after {here:,} of {size:,} bytes")


def _cut(url: str, error: Exception, here: int, size: int) -> str:
    reason = getattr(error, "reason", error)
    if not here:
        return (
            f"{url}: cannot be reached ({reason}); on a machine without a network, copy the files "
            "from another and give their folder with --from"
        )
    return (
        f"{url}: the connection was cut {ATTEMPTS} times, {here:,} of {size:,} bytes are here "
        f"({reason}); run the same command again to resume"
    )


@contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """Open the partial file for appending, for this process alone."""
    path = part.with_name(f"{part.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ModelError(
            f"{part}: another process is downloading this file; wait until it has finished"
        ) from None
    try:
        with part.open("ab+") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)
        lock.release()
