"""Threads that decode photos and videos ahead of the network."""

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Self

from personsearch.errors import PictureError
from personsearch.indexing.writer import Ended, Task
from personsearch.media import apart
from personsearch.media.contents import content_of
from personsearch.media.damage import UnreadNowError
from personsearch.media.files import Frame, Media, decode
from personsearch.media.sampling import Sampling

ERASED = (
    "people in this file, or in a copy of it, were erased; to add them again, use: personsearch "
    "store unerase"
)
"""Reason why a file is left out."""

_AHEAD = 6  # decoded pictures that wait for the network
_Item = tuple[Media, Frame] | Ended | BaseException | None  # None when a thread is done


class FileFrames:
    """The frames of files, and the ends of files; a `FrameSource`.

    Each thread has a file of its own; there is one for two processors, at most 4, unless `threads`
    says how many.
    """

    def __init__(
        self, tasks: Sequence[Task], every: float | Sampling, threads: int | None = None
    ) -> None:
        self.waited = 0.0
        self._every = every
        self._tasks, self._turn = iter(tasks), threading.Lock()
        self._stop = threading.Event()
        self._waiting: queue.Queue[_Item] = queue.Queue(_AHEAD)
        self._threads = [
            threading.Thread(target=self._decode_files, name=f"decoder {k}", daemon=True)
            for k in range(threads or max(1, min(4, (os.cpu_count() or 1) // 2)))
        ]

    def __iter__(self) -> Iterator[tuple[Media, Frame] | Ended]:
        working = len(self._threads)
        while working:
            asked = time.perf_counter()
            item = self._waiting.get()
            self.waited += time.perf_counter() - asked
            if isinstance(item, BaseException):
                raise item
            if item is None:
                working -= 1
            else:
                yield item

    def unfinished(self) -> list[Ended]:
        return []  # the next run resumes files that were not decoded to their end

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _put(self, item: _Item) -> bool:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._waiting.put(item, timeout=0.1)
                return True
        return False

    def _next_file(self) -> Task | None:
        """Return the next file to decode; others end here, by their content."""
        while True:
            with self._turn:
                task = next(self._tasks, None)
            if task is None:
                return None
            task = self._identified(task)
            ended = _end_by_content(task)
            if ended is None:
                return task
            if not self._put(ended):
                return None

    def _identified(self, task: Task) -> Task:
        """The task with the SHA-256 of its file, which decoding then reads from memory."""
        try:
            content = content_of(task.media.path, task.media.source, self._stop)
        except PictureError:  # decoding says why
            return task
        return replace(task, media=replace(task.media, content=content))

    def _decode_files(self) -> None:
        apart.stop_by(self._stop)
        try:
            while (task := self._next_file()) is not None:
                one, reason, later = task.media, "", False
                try:
                    for frame in decode(one, every=self._every, known=task.known):
                        if not self._put((one, frame)):
                            return
                except PictureError as error:
                    reason = str(error).removeprefix(f"{one.path}: ")
                    later = isinstance(error, UnreadNowError)
                if not self._put(Ended(one, reason, later=later)):
                    return
            self._put(None)
        except BaseException as error:  # the thread of the network has to raise it
            self._put(error)


def _end_by_content(task: Task) -> Ended | None:
    """The end of a file that is not indexed because of its content."""
    content = task.media.content
    if content is None:
        return None
    if content == task.content:
        return Ended(task.media, unchanged=True)
    return Ended(task.media, ERASED, erased=True) if content in task.erased else None
