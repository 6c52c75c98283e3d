"""Work that a thread does again and again beside the program."""

import logging
import threading
from abc import ABC, abstractmethod
from typing import Self

from personsearch.errors import PersonSearchError


class Periodic(ABC):
    """A thread that calls `once` every so many seconds, between `start` and `stop`.

    What goes wrong is a warning in `log`; the next run tries again.
    """

    at_once = False  # whether the first run begins at the start
    log = logging.getLogger(__name__)

    def __init__(self, name: str, every: float) -> None:
        self.name, self.every = name, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    @abstractmethod
    def once(self) -> object:
        """Run once."""

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def stop(self, patience: float | None = None) -> None:
        """Stop before the next run; wait for the present one, at most `patience` seconds."""
        self._stop.set()
        self._thread.join(patience)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _work(self) -> None:
        if not self.at_once:
            self._stop.wait(self.every)
        while not self._stop.is_set():
            try:
                self.once()
            except (PersonSearchError, OSError) as error:
                if not self._stop.is_set():  # else what it works with may have been closed
                    self.log.warning("%s: %s", self.name, error)
            self._stop.wait(self.every)
