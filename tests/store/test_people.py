"""Records of a store: where a person came from, and the states of files."""

from pathlib import Path

import numpy as np
import pytest

from personsearch.store import FileState, StoredPerson


@pytest.mark.parametrize(
    ("source", "name", "uri", "has_file"),
    [
        ("/photos", "a/b.jpg", "/photos/a/b.jpg", True),
        ("/", "b.jpg", "/b.jpg", True),
        ("/door.mp4", "", "/door.mp4", True),
        ("rtsp://gate:554/live", "2026-01-05T12:00:00Z", None, False),
        ("api:local", "a.png", "api:local/a.png", False),
    ],
)
def test_source_and_name_in_one_text(
    source: str, name: str, uri: str | None, has_file: bool
) -> None:
    box = np.zeros(4, np.float32)
    person = StoredPerson(1, source, name, box, 0.5, None, None, None, None, size=(64, 48))
    assert person.uri == (uri or f"{source}/{name}")
    assert person.path == Path(person.uri)
    assert person.has_file is has_file


def test_states_keep_their_values_on_disk() -> None:
    assert [str(state) for state in FileState] == ["open", "whole", "unreadable", "erased"]
    assert FileState("whole") is FileState.COMPLETE
