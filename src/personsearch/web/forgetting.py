"""Deletes from the server's memory what it holds of people whom any process has erased."""

import threading

from personsearch.errors import PersonSearchError
from personsearch.web.logs import logger
from personsearch.web.service import Service

EVERY = 1.0
"""Seconds between two looks at the store."""

_STOP_TIMEOUT = 5.0  # seconds


class Forgetting:
    """A thread that watches the store for erasures while it is served.

    Answers do not rely on it: they read people from the store. It bounds the time for which
    embeddings of erased people stay in memory.
    """

    def __init__(self, service: Service, every: float | None = None) -> None:
        self.service, self.every = service, EVERY if every is None else every
        self._seen: bytes | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="forgetting", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; wait a few seconds for work that has begun."""
        self._stop.set()
        self._thread.join(_STOP_TIMEOUT)

    def once(self) -> bool:
        """Look once; return whether somebody was erased since the last time."""
        engine = self.service.archive.engine
        seen, self._seen = self._seen, engine.erasure()
        if seen == self._seen:
            return False
        self.service.forget_erased()
        engine.forget()
        return True

    def _work(self) -> None:
        while not self._stop.wait(self.every):
            try:
                self.once()
            except (PersonSearchError, OSError) as error:
                self._seen = None  # next time again
                if not self._stop.is_set():
                    logger.warning("forgetting: %s", error)
