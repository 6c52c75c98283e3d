"""Write to Milvus, under ids that depend on the detections alone.

The same person in the same picture has the same id in every process, so a shard that is indexed
again replaces its rows. A file is written when it is indexed to its end, several files together:
first its people, then the deletion of people of an earlier version, at last that it is complete.
"""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from personsearch.engines.engine import PersonRecord
from personsearch.engines.milvus import MilvusEngine
from personsearch.engines.milvus_collection import Expression, file_row
from personsearch.engines.milvus_files import TOGETHER, file_id, hashed_id, known_files, people_of
from personsearch.indexing.tracks import link_detections
from personsearch.indexing.writer import Ended, Item, Picture, Task, to_index
from personsearch.media.files import Media
from personsearch.store import FileState, FoundPeople, KnownFile, StoredPerson, TrackSpan
from personsearch.store.tracks import FrameDetection

_PEOPLE = 2048  # the most that wait until files are written


def person_id(source: str, name: str, frame: int | None, order: int) -> int:
    """Return the id of the box number `order` of a picture.

    Among a hundred million people two have the same id with a probability of 0.05 %.
    """
    return hashed_id("person", source, name, frame, order)


class _File:
    """A file that is being indexed; thumbnails wait in a nameless file once they are many."""

    def __init__(self) -> None:
        # People, float16 embeddings, and where thumbnails begin and how many bytes they have.
        self._found: list[tuple[StoredPerson, np.ndarray, int, int]] = []
        self._thumbnails = tempfile.SpooledTemporaryFile(1 << 20)  # noqa: SIM115 - until `close`
        self.close = self._thumbnails.close

    def add(self, media: Media, found: FoundPeople) -> None:
        for order, box in enumerate(found.boxes):
            person = StoredPerson(
                id=person_id(media.source, media.name, found.frame, order),
                source=media.source,
                name=media.name,
                box=np.asarray(box, np.float32),
                score=float(found.scores[order]),
                frame=found.frame,
                position=found.position,
                time=found.time,
                camera=media.camera,
                size=(int(found.size[0]), int(found.size[1])),
            )
            thumbnail = found.thumbnails[order]
            vector = np.asarray(found.embeddings[order], np.float16)
            self._found.append((person, vector, self._thumbnails.tell(), len(thumbnail)))
            self._thumbnails.write(thumbnail)

    def records(self, tracks: bool) -> list[PersonRecord]:
        """Return all detections, or the best views of each track."""
        if not tracks:
            return [self._record(index, None) for index in range(len(self._found))]
        # Numbered in their order, as in a SQLite store, so that the tracks are the same.
        detections = []
        for index, (one, vector, *_) in enumerate(self._found):
            when = (index, one.frame or 0, one.position or 0.0)
            detections.append(FrameDetection(*when, one.box, one.score, vector.astype(np.float32)))
        kept = []
        for track in link_detections(detections):
            first, last = track.detections[0], track.detections[-1]
            track_id = hashed_id("track", self._found[first.id][0].id)
            span = TrackSpan(track_id, first.position, last.position, len(track.detections))
            kept += [self._record(one.id, span) for one in track.best_views()]
        return kept

    def _record(self, index: int, track: TrackSpan | None) -> PersonRecord:
        person, vector, begin, size = self._found[index]
        self._thumbnails.seek(begin)
        return PersonRecord(replace(person, track=track), vector, self._thumbnails.read(size))


class MilvusWriter:
    """Writes files to a Milvus collection; each thread or process needs its own."""

    def __init__(self, engine: MilvusEngine, *, tracks: bool = True) -> None:
        self.engine, self._tracks = engine, tracks
        self._open: dict[Media, _File] = {}
        self._waiting: list[tuple[Ended, list[PersonRecord]]] = []

    def plan(self, media: Sequence[Media]) -> list[Task]:
        """Return the files that are new or changed; items taken of them before are dropped."""
        for one in media:
            if one in self._open:
                self._open.pop(one).close()
        return [Task(one) for one, _ in to_index(self, media)]

    def known_files(self, source: str) -> dict[str, KnownFile]:
        return known_files(self.engine.files, source)

    def write(self, item: Item) -> list[Item]:
        media = item.media
        if isinstance(item, Ended) and item.later:
            if media in self._open:
                self._open.pop(media).close()
            return [item]
        if media not in self._open:
            self._open[media] = _File()
        file = self._open[media]
        if isinstance(item, Picture):
            file.add(media, item.found)
            return [item]
        with closing(self._open.pop(media)):
            records = file.records(self._tracks and media.kind == "video")
        self._waiting.append((item, records))
        people = sum(len(found) for _, found in self._waiting)
        return [*self.flush()] if len(self._waiting) >= TOGETHER or people >= _PEOPLE else []

    def flush(self) -> list[Ended]:
        if not self._waiting:
            return []
        records = [one for _, found in self._waiting for one in found]
        if records:
            self.engine.upsert(records)
        self._forget({one.person.id for one in records})
        ended = [one for one, _ in self._waiting]
        self.engine.files.upsert([self._row(one, one.media) for one in ended])
        self._waiting.clear()
        return ended

    def _row(self, ended: Ended, media: Media) -> dict[str, object]:
        return file_row(
            self.engine.files,
            file_id(media.source, media.name),
            **{"source": media.source, "name": media.name, "note": ended.reason[:1000]},
            **{"state": FileState.UNREADABLE if ended.reason else FileState.COMPLETE},
            **{"bytes": media.stamp.bytes, "changed": media.stamp.changed},
        )

    def _forget(self, new: set[int]) -> None:
        """Delete the people of earlier versions of the waiting files."""
        names: dict[str, list[str]] = {}
        for one, _ in self._waiting:
            names.setdefault(one.media.source, []).append(one.media.name)
        for source, some in names.items():
            gone = sorted(people_of(self.engine.people, source, some) - new)
            if gone:
                details = {"source": source, "pictures": some}
                self.engine.audit.logged("replace", None, details, partial(self._delete, gone))

    def _delete(self, people: Sequence[int]) -> int:
        self.engine.people.delete(people)
        return len(people)

    def close(self) -> None:
        """Drop files that were indexed in part."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def counts(self) -> dict[str, int]:
        files = self.engine.files
        failed = Expression("state == {state}", {"state": FileState.UNREADABLE})
        known = files.count(Expression("id != 0"))
        return {"files": known, "people": self.engine.count(), "unreadable": files.count(failed)}
