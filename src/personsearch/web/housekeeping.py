"""Hourly maintenance of a served store: retention, and the index of approximate search."""

from personsearch.engines.index import MANY
from personsearch.engines.sqlite import StoreEngine
from personsearch.periodic import Periodic
from personsearch.store.retention import EVERY, expire_if_due
from personsearch.web.logs import logger
from personsearch.web.service import Service


class Housekeeping(Periodic):
    """A thread that maintains a store while it is served; the first run begins at once."""

    at_once, log = True, logger

    def __init__(self, service: Service, every: float = EVERY) -> None:
        super().__init__("housekeeping", every)
        self.service = service

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
