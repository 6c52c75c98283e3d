"""Retention of a store that is in use: outdated people are erased every hour."""

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from personsearch.errors import PersonSearchError
from personsearch.store.store import open_store

EVERY = 3600.0  # seconds between two runs
CALLER = "retention"  # in the audit log

_log = logging.getLogger(__name__)


def expire_if_due(folder: Path) -> int:
    """Erase outdated people, and copies that an erasure left behind; return the number of views.

    Raises:
        StoreError: see `Store.expire`.
    """
    with open_store(folder) as store:
        if store.retention() is None and store.scrubbed():
            return 0
    with open_store(folder, write=True, caller=CALLER) as store:
        return store.expire()


class Retention:
    """A thread that applies the retention time of a store, for one `with` block."""

    def __init__(self, folder: Path, every: float = EVERY) -> None:
        self.folder, self.every = folder, every
        self.erased = 0  # views
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self.every):
            try:
                self.erased += expire_if_due(self.folder)
            except (PersonSearchError, OSError) as error:
                _log.warning("%s", error)  # the next run tries again
