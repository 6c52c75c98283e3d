"""From a query to matches.

Names are imported when they are first used: importing this package loads no network and no solver.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personsearch.search.archive import Archive as Archive
    from personsearch.search.archive import ArchiveResult as ArchiveResult
    from personsearch.search.archive import open_archive as open_archive
    from personsearch.search.people_search import Match as Match
    from personsearch.search.query import QueryPicture as QueryPicture
    from personsearch.search.request import SearchRequest as SearchRequest
    from personsearch.search.timeline import Sighting as Sighting

_MODULES = {
    "Archive": "archive",
    "ArchiveResult": "archive",
    "Match": "people_search",
    "QueryPicture": "query",
    "SearchRequest": "request",
    "Sighting": "timeline",
    "open_archive": "archive",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'personsearch.search' has no attribute {name!r}")
    return getattr(import_module(f"personsearch.search.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
