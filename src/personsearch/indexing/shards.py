"""Shards: files that one worker of a cluster indexes together, and what it hands over."""

import time
from collections.abc import Iterable, Iterator, Sequence

from personsearch.indexing.decoders import FileFrames
from personsearch.indexing.finding import describe, find
from personsearch.indexing.writer import Ended, Item, Picture, Task
from personsearch.systems.base import PersonSearchModel

Shard = tuple[Task, ...]
FILES = 32  # the most files in a shard
BYTES = 256 << 20  # the most bytes in a shard, unless one file has more


def make_shards(tasks: Sequence[Task], files: int = FILES, size: int = BYTES) -> list[Shard]:
    """Cut the tasks into shards, by the files alone: the same ones on every machine."""
    shards: list[list[Task]] = []
    filled = 0
    for task in tasks:
        if not shards or len(shards[-1]) == files or filled + task.media.stamp.bytes > size:
            shards.append([])
            filled = 0
        shards[-1].append(task)
        filled += task.media.stamp.bytes
    return [tuple(shard) for shard in shards]


def process_shard(
    shard: Shard, model: PersonSearchModel, every: float, score_threshold: float
) -> Iterator[Item]:
    """Yield every picture of a shard with the people in it, and the end of each file."""
    with FileFrames(shard, every, threads=1) as frames:
        for item in frames:
            if isinstance(item, Ended):
                yield item
            else:
                media, frame = item
                yield Picture(media, describe(frame, find(model, frame, score_threshold)))


def in_pieces(items: Iterable[Item], count: int = 8, seconds: float = 2.0) -> Iterator[list[Item]]:
    """Yield lists of at most `count` items, none of which takes much longer than `seconds`.

    They bound how much of a shard is in transit or in memory at once.
    """
    piece: list[Item] = []
    began = time.monotonic()
    for item in items:
        piece.append(item)
        if len(piece) >= count or time.monotonic() - began > seconds:
            yield piece
            piece, began = [], time.monotonic()
    if piece:
        yield piece
