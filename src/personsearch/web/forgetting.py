"""Deletes from the server's memory what it holds of people whom any process has erased."""

from personsearch.periodic import Periodic
from personsearch.web.logs import logger
from personsearch.web.service import Service

EVERY = 1.0
"""Seconds between two looks at the store."""


class Forgetting(Periodic):
    """A thread that watches the store for erasures while it is served.

    Answers do not rely on it: they read people from the store. It bounds the time for which
    embeddings of erased people stay in memory.
    """

    log = logger

    def __init__(self, service: Service, every: float | None = None) -> None:
        super().__init__("forgetting", EVERY if every is None else every)
        self.service = service
        self._seen: bytes | None = None

    def once(self) -> bool:
        """Look once; return whether somebody was erased since the last time."""
        engine = self.service.archive.engine
        erasure = engine.erasure()
        if erasure == self._seen:
            return False
        self.service.forget_erased()
        engine.forget()
        self._seen = erasure  # now, so that what failed is done the next time
        return True
