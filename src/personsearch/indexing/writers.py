"""The writer of a SQLite store, and the writer for a store's URI."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from personsearch.engines.uri import check_scheme, scheme_of
from personsearch.indexing.tracks import link_detections
from personsearch.indexing.writer import Ended, Item, Picture, Task, Writer, to_index
from personsearch.media.files import Media
from personsearch.store import FileState, KnownFile, ModelIdentity, Store, open_store
from personsearch.store.locks import indexing_lock

_PATIENCE = 600.0  # seconds that a run waits for others who write, such as an erasure from millions


class StoreWriter:
    """Writes to a store that is open for writing, each picture in one transaction.

    With `tracks`, people in a video are joined to tracks, of which the best views are kept.
    """

    def __init__(self, store: Store, *, tracks: bool = True) -> None:
        self.store, self._tracks = store, tracks
        self._rows: dict[Media, int] = {}

    def known_files(self, source: str) -> dict[str, KnownFile]:
        return self.store.known_files(source)

    def plan(self, media: Sequence[Media]) -> list[Task]:
        tasks, erased = [], self.store.erased_contents()
        for one, known in to_index(self, media):
            resumed = known is not None and known.stamp == one.stamp and known.frames
            frames = self.store.frames(known.id) if known is not None and resumed else ()
            complete = known is not None and known.state == FileState.COMPLETE
            content = known.content if known is not None and complete else None
            tasks.append(Task(one, frozenset(frames), content, erased))
        return tasks

    def write(self, item: Item) -> list[Item]:
        """Write an item; nothing is returned of a file that was erased since it was begun."""
        one = item.media
        if isinstance(item, Ended) and item.later:
            self._rows.pop(one, None)
            return [item]
        file = (one.source, one.name, one.stamp)
        if isinstance(item, Ended) and one.content and (item.unchanged or item.erased):
            if item.unchanged:
                self.store.keep_file(*file, one.content)
            else:
                self.store.leave_out(*file, one.camera, one.content)
            return [item]
        if one not in self._rows:
            row = self.store.begin_file(*file, one.camera, one.content)
            self._rows[one] = row
        row = self._rows[one]
        if isinstance(item, Picture):
            written = self.store.add(row, [item.found], finished=one.kind == "photo")
            return [item] if written else []
        del self._rows[one]
        written = True
        if one.kind == "video":
            detections = self.store.frame_detections(row) if self._tracks else []
            written = self.store.finish_video(row, link_detections(detections))
        if item.reason:
            written = self.store.finish_file(row, item.reason)
        return [item] if written else []

    def flush(self) -> list[Ended]:
        return []  # every item is written at once

    def counts(self) -> dict[str, int]:
        return self.store.counts()


@contextmanager
def open_writer(uri: Path | str, model: ModelIdentity, *, tracks: bool = True) -> Iterator[Writer]:
    """Open the writer of a store, which is created if it does not exist.

    Raises:
        StoreError: it is another model's, or another run indexes into the folder.
    """
    if not scheme_of(uri):
        with open_store(uri, model=model, write=True) as store, indexing_lock(Path(uri)):
            store.patience = _PATIENCE
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
