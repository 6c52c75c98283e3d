"""Fixtures shared by the tests of indexing."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from personsearch.engines.state import VARIABLE


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Audit logs of stores on a server lie in a folder of the test."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "state"))


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Whatever a test starts has ended when it ends."""
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    for thread in left:
        # Those of Milvus Lite's gRPC server end a moment after it is stopped.
        if thread.name.endswith(("(_serve)", "(cancel_all_calls_after_grace)")):
            thread.join(10.0)
    # Milvus Lite keeps a pool of its own.
    own = [one for one in left if not one.name.startswith("ThreadPoolExecutor")]
    assert not [thread for thread in own if thread.is_alive()]
