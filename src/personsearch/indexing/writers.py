"""The writer of a SQLite store, and the writer for a store's URI."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from personsearch.engines.uri import check_scheme, scheme_of
from personsearch.indexing.tracks import link_detections
from personsearch.indexing.writer import Ended, Item, Picture, Task, Writer, is_done
from personsearch.media.files import Media
from personsearch.store import KnownFile, ModelIdentity, Store, open_store


class StoreWriter:
    """Writes to a store that is open for writing, each picture in one transaction.

    Args:
        store: the store.
        tracks: join people in a video to tracks, and keep the best views of each.
    """

    def __init__(self, store: Store, *, tracks: bool = True) -> None:
        self.store, self._tracks = store, tracks
        self._rows: dict[Media, int] = {}

    def known_files(self, source: str) -> dict[str, KnownFile]:
        """Return the known files of a source, by name."""
        return self.store.known_files(source)

    def plan(self, media: Sequence[Media]) -> list[Task]:
        """Return the files that are new, changed or unfinished; erased ones stay erased."""
        known = {source: self.known_files(source) for source in {one.source for one in media}}
        tasks = []
        for one in media:
            there = known[one.source].get(one.name)
            if there is None:
                tasks.append(Task(one))
            elif not is_done(there, one):
                resumed = there.stamp == one.stamp and there.frames
                tasks.append(Task(one, frozenset(self.store.frames(there.id) if resumed else ())))
        return tasks

    def write(self, item: Item) -> list[Ended]:
        """Take an item; return the files that are now completely written."""
        one = item.media
        if one not in self._rows:
            row = self.store.begin_file(one.source, one.name, one.stamp, one.camera)
            self._rows[one] = row
        row = self._rows[one]
        if isinstance(item, Picture):
            self.store.add(row, [item.found], finished=one.kind == "photo")
            return []
        if one.kind == "video":
            detections = self.store.frame_detections(row) if self._tracks else []
            self.store.finish_video(row, link_detections(detections))
        if item.reason:
            self.store.finish_file(row, item.reason)
        del self._rows[one]
        return [item]

    def flush(self) -> list[Ended]:
        """Do nothing: every item is written at once."""
        return []

    def counts(self) -> dict[str, int]:
        """Return how much is in the store."""
        return self.store.counts()


@contextmanager
def open_writer(uri: Path | str, model: ModelIdentity, *, tracks: bool = True) -> Iterator[Writer]:
    """Open the writer of a store, which is created if it does not exist.

    Args:
        uri: as for `engines.uri.open_engine`.
        model: the model that finds the people.
        tracks: join people in a video to tracks, and keep the best views of each.

    Raises:
        StoreError: it is another model's, or another process writes to the folder.
    """
    if not scheme_of(uri):
        with open_store(uri, model=model, write=True) as store:
            yield StoreWriter(store, tracks=tracks)
        return
    check_scheme(uri)
    from personsearch.engines.milvus import MilvusEngine
    from personsearch.indexing.milvus_writer import MilvusWriter

    with (
        MilvusEngine(str(uri), model, create=True) as engine,
        closing(MilvusWriter(engine, tracks=tracks)) as writer,
    ):
        yield writer
