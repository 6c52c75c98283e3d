"""Files in Milvus: the ids of their rows, what is known of them, and erasing them."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from personsearch.engines.milvus_collection import Collection, Expression, file_row
from personsearch.errors import StoreError
from personsearch.store import FileState, KnownFile
from personsearch.store.filters import selection
from personsearch.types import FileStamp

TOGETHER = 64  # files that are written or erased at once


def hashed_id(*parts: object) -> int:
    """Return 63 bits of a hash, never 0: the same id for the same parts on every machine."""
    text = json.dumps(parts).encode()
    return (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1) or 1


def file_id(source: str, name: str) -> int:
    """Return the id of a file's row."""
    return hashed_id("file", source, name)


def known_files(files: Collection, source: str) -> dict[str, KnownFile]:
    """Return the files of a source by name."""
    fields = ["id", "name", "bytes", "changed", "state"]
    matching = Expression("source == {source} and id != 0", {"source": source})
    return {
        row["name"]: KnownFile(
            row["id"], FileStamp(row["bytes"], row["changed"]), FileState(row["state"]), 0
        )
        for row in files.every(matching, fields)
    }


def people_of(people: Collection, source: str, names: Sequence[str]) -> set[int]:
    """Return the ids of the people in some files of a source."""
    matching = Expression(
        "source == {source} and name in {names}", {"source": source, "names": list(names)}
    )
    return {int(row["id"]) for row in people.every(matching, ["id"])}


def files_of(
    uri: str, people: Collection, files: Collection, source: str, names: Sequence[str] | None = None
) -> dict[str, FileStamp]:
    """Return the stamps of files of a source, or of all; `StoreError` if one is unknown."""
    known = {name: one.stamp for name, one in known_files(files, source).items()}
    matching = Expression("source == {source}", {"source": source})
    for row in people.every(matching, ["id", "name"]):  # people who were migrated have no file
        known.setdefault(row["name"], FileStamp(-1, 0))
    if not known:
        raise StoreError(f"{uri}: has no source {source!r}")
    chosen = list(selection("names", known if names is None else names) or ())
    if unknown := [name for name in chosen if name not in known]:
        raise StoreError(f"{uri}: source {source!r} has no file {unknown[0]!r}")
    return {name: known[name] for name in chosen}


def erase_files(
    people: Collection, files: Collection, source: str, stamps: Mapping[str, FileStamp]
) -> int:
    """Erase files of a source with the people in them; return the number of people.

    See `Engine.erase_files`. The files stay known as erased, so that indexing leaves them out.
    """
    chosen = list(stamps)
    erased = 0
    for begin in range(0, len(chosen), TOGETHER):
        some = chosen[begin : begin + TOGETHER]
        rows = [
            file_row(
                files,
                file_id(source, name),
                **{"source": source, "name": name, "state": FileState.ERASED},
                **{"bytes": stamps[name].bytes, "changed": stamps[name].changed},
            )
            for name in some
        ]
        files.upsert(rows)
        there = people_of(people, source, some)
        people.delete(sorted(there))
        erased += len(there)
    return erased
