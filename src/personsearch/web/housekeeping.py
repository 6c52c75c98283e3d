"""What a server does for its store by itself: erases what is too old, and keeps search quick."""

import threading

from personsearch.engines.index import MANY
from personsearch.engines.sqlite import StoreEngine
from personsearch.errors import PersonSearchError
from personsearch.store import open_store
from personsearch.store.audit import log_expired
from personsearch.web.logs import logger
from personsearch.web.service import Service

EVERY = 3600.0
"""Seconds from one time to the next."""

_PATIENCE = 5.0  # seconds


class Housekeeping:
    """A thread that looks after a store as long as it is served.

    Args:
        service: that is served.
        every: seconds from one time to the next.
    """

    def __init__(self, service: Service, every: float = EVERY) -> None:
        self.service, self.every = service, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begins, at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends before the next time; waits a little for what is being done."""
        self._stop.set()
        self._thread.join(_PATIENCE)

    def once(self) -> int:
        """Does what is to be done now; says how many views were too old.

        Raises:
            PersonSearchError: another process writes, or the store cannot be written.
        """
        engine = self.service.archive.engine
        if not isinstance(engine, StoreEngine):
            return 0  # a server looks after itself
        with open_store(self.service.folder) as store:
            late = store.outdated() > 0 or not store.scrubbed()
        erased = 0
        if late:
            with open_store(self.service.folder, write=True) as store:
                erased = store.expire()
            log_expired(self.service.folder, "retention", erased)
            self.service.results.clear()
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
                    return  # the store was closed meanwhile
                # The next time is soon enough: an index run may be writing.
                logger.warning("housekeeping: %s", error)
            self._stop.wait(self.every)
