"""Writes what workers found to Milvus: under ids that depend on what was seen alone.

The same person in the same picture has the same id whoever indexes it, so a shard that is done
again replaces what was there. A file is written when all of it was looked at, several files
together: first its people, then whoever was there before and is no longer, at last that it is done.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from personsearch.engines.engine import PersonRecord
from personsearch.engines.milvus import MilvusEngine
from personsearch.engines.milvus_collection import Expression, file_row
from personsearch.engines.milvus_files import TOGETHER, file_id, hashed_id, known_files, people_of
from personsearch.indexing.shards import Ended, Item, Looked, Task, is_done
from personsearch.indexing.tracks import link_detections
from personsearch.media.files import Media
from personsearch.store import FileState, StoredPerson, TrackSpan
from personsearch.store.tracks import FrameDetection

_PEOPLE = 2048  # that wait, at the most, until files are written


def person_id(source: str, name: str, frame: int | None, order: int) -> int:
    """The id of someone in a picture: 63 bits of a hash, never 0.

    Among a hundred million people two have the same one with a chance of 0.05 %.

    Args:
        source, name: the file.
        frame: of the video; None for a photo.
        order: of the boxes found in the picture.
    """
    return hashed_id("person", source, name, frame, order)


@dataclass(eq=False)
class _File:
    """A file that is being looked at; many thumbnails wait on the disk, in a nameless file."""

    media: Media
    people: list[StoredPerson] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thumbnails = tempfile.SpooledTemporaryFile(1 << 20)  # noqa: SIM115 - until `close`

    def add(self, item: Looked) -> None:
        found, media = item.found, self.media
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
            begin = self._thumbnails.seek(0, 2)
            self._thumbnails.write(found.thumbnails[order])
            self.people.append(person)
            self.vectors.append(np.asarray(found.embeddings[order], np.float16))
            self.spans.append((begin, len(found.thumbnails[order])))

    def records(self, tracks: bool) -> list[PersonRecord]:
        """Everyone, or the best views of each track."""
        if self.media.kind == "photo" or not tracks:
            return [self._record(index, None) for index in range(len(self.people))]
        # By their order, as a store numbers them: the tracks are the same.
        seen = [
            FrameDetection(
                *(index, one.frame or 0, one.position or 0.0, one.box, one.score),
                vector=self.vectors[index].astype(np.float32),
            )
            for index, one in enumerate(self.people)
        ]
        kept = []
        for track in link_detections(seen):
            first, last = track.detections[0], track.detections[-1]
            span = TrackSpan(
                hashed_id("track", self.people[first.id].id),
                *(first.position, last.position, len(track.detections)),
            )
            kept += [self._record(one.id, span) for one in track.best_views()]
        return kept

    def _record(self, index: int, track: TrackSpan | None) -> PersonRecord:
        begin, size = self.spans[index]
        self._thumbnails.seek(begin)
        person = replace(self.people[index], track=track)
        return PersonRecord(person, self.vectors[index], self._thumbnails.read(size))

    def close(self) -> None:
        self._thumbnails.close()


class MilvusWriter:
    """Writes files to a Milvus collection. One thread uses it; of processes each has its own."""

    def __init__(self, engine: MilvusEngine, *, tracks: bool = True) -> None:
        self.engine, self._tracks = engine, tracks
        self._open: dict[Media, _File] = {}
        self._waiting: list[tuple[Ended, list[PersonRecord]]] = []

    def plan(self, media: Sequence[Media]) -> list[Task]:
        """Those that are not there yet, or have changed; a file is there whole or not at all.

        What was looked at of a file that is planned again is forgotten.
        """
        for one in media:
            if one in self._open:
                self._open.pop(one).close()
        known = {
            source: known_files(self.engine.files, source)
            for source in {one.source for one in media}
        }
        return [
            Task(one)
            for one in media
            if (there := known[one.source].get(one.name)) is None or not is_done(there, one)
        ]

    def write(self, item: Item) -> list[Ended]:
        """Takes an item; says of which files everything is written now."""
        if item.media not in self._open:
            self._open[item.media] = _File(item.media)
        file = self._open[item.media]
        if isinstance(item, Looked):
            file.add(item)
            return []
        del self._open[item.media]
        records = file.records(self._tracks)
        file.close()
        self._waiting.append((item, records))
        people = sum(len(found) for _, found in self._waiting)
        return self.flush() if len(self._waiting) >= TOGETHER or people >= _PEOPLE else []

    def flush(self) -> list[Ended]:
        """Writes the files that wait; says which."""
        if not self._waiting:
            return []
        records = [one for _, found in self._waiting for one in found]
        if records:
            self.engine.upsert(records)
        new = {one.person.id for one in records}
        self._forget(new)
        rows = [
            self._row(
                one.media, FileState.UNREADABLE if one.reason else FileState.COMPLETE, one.reason
            )
            for one, _ in self._waiting
        ]
        self.engine.files.upsert(rows)
        ended = [one for one, _ in self._waiting]
        self._waiting.clear()
        return ended

    def _forget(self, new: set[int]) -> None:
        """Deletes whoever an earlier version of the waiting files showed."""
        names: dict[str, list[str]] = {}
        for one, _ in self._waiting:
            names.setdefault(one.media.source, []).append(one.media.name)
        for source, some in names.items():
            there = people_of(self.engine.people, source, some)
            self.engine.people.delete(sorted(there - new))

    def _row(self, media: Media, state: FileState, reason: str) -> dict[str, object]:
        return file_row(
            self.engine.files,
            file_id(media.source, media.name),
            **{"source": media.source, "name": media.name, "state": state, "note": reason[:1000]},
            **{"bytes": media.stamp.bytes, "changed": media.stamp.changed},
        )

    def close(self) -> None:
        """Forgets files that were looked at in part."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def counts(self) -> dict[str, int]:
        """How many people and files there are, and files that failed."""
        files = self.engine.files
        failed = Expression("state == {state}", {"state": "unreadable"})
        return {
            "files": files.count(Expression("id != 0")),
            "people": self.engine.count(),
            "unreadable": files.count(failed),
        }
