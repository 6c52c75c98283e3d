"""Checks of a store: the database itself, its embeddings and its thumbnails."""

import io

import numpy as np
from PIL import Image

from personsearch.errors import StoreError
from personsearch.store.merge import UNIT_TOLERANCE, Progress
from personsearch.store.store import Store

UNSCRUBBED = "an erasure is not finished: copies of erased people may be in free pages"

_BATCH = 1024
_RULES = {
    "people without an embedding": "people WHERE id NOT IN (SELECT person FROM embeddings)",
    "people in a track of another file": (
        "people e JOIN pictures p ON p.id = e.picture JOIN tracks t ON t.id = e.track "
        "WHERE t.file != p.file"
    ),
    "tracks without anyone": (
        "tracks WHERE id NOT IN (SELECT track FROM people WHERE track NOT NULL)"
    ),
    "pictures in files that are erased": (
        "pictures p JOIN files f ON f.id = p.file WHERE f.state = 'erased'"
    ),
    "commits without a token of 16 bytes": (
        "(SELECT changes FROM counter UNION SELECT changes FROM commits) c "
        "LEFT JOIN commits t USING (changes) WHERE length(coalesce(t.token, '')) != 16"
    ),
    "commits of the future": "commits WHERE changes > (SELECT changes FROM counter)",
    "rows that say what is kept, instead of one": (
        "(SELECT count(*) rows, sum(length(erasure) = 16) whole FROM keeping) "
        "WHERE rows != 1 OR whole IS NOT 1"
    ),
    "contents that are no SHA-256": (
        "(SELECT content FROM files UNION ALL SELECT content FROM erased) "
        "WHERE length(content) != 32"
    ),
    "sources that are neither of this machine nor imported": "sources WHERE here NOT IN (0, 1)",
    "boxes or scores that are not finite": (
        "people WHERE NOT max(abs(x1), abs(y1), abs(x2), abs(y2), abs(score)) < 9e999"
    ),
}


def check_store(store: Store, progress: Progress | None = None) -> list[str]:
    """Return one line a problem; empty if there is none."""
    try:
        with store.snapshot():
            if damage := store.damage():
                return [damage]
            problems = [] if store.scrubbed() else [UNSCRUBBED]
            for what, rows in _RULES.items():
                (count,) = next(store.query(f"SELECT count(*) FROM {rows}"))
                problems += [f"{count} {what}"] if count else []
            return problems + _check_people(store, progress)
    except StoreError as error:
        return [str(error).removeprefix(f"{store.folder}: ")]


def _check_people(store: Store, progress: Progress | None) -> list[str]:
    problems: list[str] = []
    total = store.counts()["people"]
    dim = store.model.dim
    rows = store.query(
        "SELECT v.person, v.vector, t.jpeg FROM embeddings v "
        "LEFT JOIN thumbnails t ON t.person = v.person ORDER BY v.person"
    )
    for done, (person, vector, jpeg) in enumerate(rows, start=1):
        if len(vector) != 2 * dim:
            wrong = f"embedding of {len(vector)} bytes, expected {2 * dim}"
            problems.append(f"person {person}: {wrong}")
        else:
            length = float(np.linalg.norm(np.frombuffer(vector, np.float16).astype(np.float32)))
            if not abs(length - 1) < UNIT_TOLERANCE:
                problems.append(f"person {person}: embedding of length {length:.3g}, expected 1")
        if jpeg is not None and (wrong := _wrong_picture(jpeg)):
            problems.append(f"person {person}: thumbnail {wrong}")
        if progress and (done % _BATCH == 0 or done == total):
            progress("checking", done, total)
    return problems


def _wrong_picture(jpeg: bytes) -> str:
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"cannot be read ({type(error).__name__})"
    return ""
