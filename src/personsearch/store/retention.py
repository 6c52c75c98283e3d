"""Retention of a store that is in use: outdated people are erased every hour."""

import logging
from pathlib import Path

from personsearch.periodic import Periodic
from personsearch.store.store import open_store

EVERY = 3600.0  # seconds between two runs
CALLER = "retention"  # in the audit log


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


class Retention(Periodic):
    """A thread that applies the retention time of a store."""

    log = logging.getLogger(__name__)

    def __init__(self, folder: Path, every: float = EVERY) -> None:
        super().__init__(CALLER, every)
        self.folder = folder
        self.erased = 0  # views

    def once(self) -> None:
        self.erased += expire_if_due(self.folder)
