"""Hourly maintenance of a served store: retention, and the index of approximate search."""

import threading

from personsearch.engines.index import MANY
from personsearch.engines.sqlite import StoreEngine
from personsearch.errors import PersonSearchError
from personsearch.store.retention import EVERY, expire_if_due
from personsearch.web.logs import logger
from personsearch.web.service import Service

_STOP_TIMEOUT = 5.0  # seconds


class Housekeeping:
    """A thread that maintains a store while it is served."""

    def __init__(self, service: Service, every: float = EVERY) -> None:
        self.service, self.every = service, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Start; the first run begins at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop before the next run; wait a few seconds for the present one."""
        self._stop.set()
        self._thread.join(_STOP_TIMEOUT)

    def once(self) -> int:
        """Run once; return the number of erased views."""
        engine = self.service.archive.engine
        if not isinstance(engine, StoreEngine):
            return 0  # Milvus maintains itself
        erased = expire_if_due(self.service.folder)
        self.service.metrics.erased.inc(erased)
        if engine.count() >= MANY:
            engine.prepare()
        return erased

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self.once()
            except (PersonSearchError, OSError) as error:
                if self._stop.is_set():
                    return  # the store has been closed
                # An index run may be writing; the next run tries again.
                logger.warning("housekeeping: %s", error)
            self._stop.wait(self.every)
