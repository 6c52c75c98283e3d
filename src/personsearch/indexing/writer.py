"""A thread that writes, so that neither the network nor a decoder waits for the disk."""

import queue
import threading
from collections.abc import Callable
from typing import Self

_BEHIND = 8  # pictures that wait to be written


class Writer:
    """Does what it is given, one after the other, in a thread of its own.

    What has been given is done before the block ends, also when the block ends by an error. After a
    failure nothing more is done, and the failure is raised where the next is given, or at the end.
    """

    def __init__(self, behind: int = _BEHIND) -> None:
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(behind)
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._failure: BaseException | None = None

    def do(self, action: Callable[[], None]) -> None:
        """Gives it something to do; waits while too much is waiting.

        Raises:
            BaseException: whatever something given earlier has raised.
        """
        self._raise()
        self._waiting.put(action)

    def _raise(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _work(self) -> None:
        failed = False
        while (action := self._waiting.get()) is not None:
            if failed:
                continue
            try:
                action()
            except BaseException as error:
                self._failure, failed = error, True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise()
