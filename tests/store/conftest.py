"""A store of few people."""

from pathlib import Path

import pytest
from few_people import MODEL, fill

from personsearch.store import open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        fill(store)
    return tmp_path / "store"
