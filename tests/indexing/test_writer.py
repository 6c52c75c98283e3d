"""When a known file needs no indexing."""

from pathlib import Path

import pytest

from personsearch.indexing.writer import is_done
from personsearch.media.files import Media
from personsearch.store import FileState, KnownFile
from personsearch.types import FileStamp

STAMP = FileStamp(9, 9)
MEDIA = Media("/s", "a.jpg", Path("/s/a.jpg"), "photo", STAMP, "gate")


@pytest.mark.parametrize(
    ("state", "same", "changed"),
    [
        (FileState.COMPLETE, True, False),
        (FileState.UNREADABLE, True, False),
        (FileState.OPEN, False, False),
        (FileState.ERASED, True, True),
    ],
)
def test_what_needs_no_indexing(state: FileState, same: bool, changed: bool) -> None:
    assert is_done(KnownFile(1, STAMP, state, 0), MEDIA) == same
    assert is_done(KnownFile(1, FileStamp(8, 9), state, 0), MEDIA) == changed
