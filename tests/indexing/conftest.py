"""Fixtures shared by the tests of indexing."""

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Whatever a test starts has ended when it ends."""
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    # Milvus Lite keeps a pool of its own.
    assert not [thread for thread in left if not thread.name.startswith("ThreadPoolExecutor")]
