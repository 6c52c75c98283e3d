"""Fixtures shared by the tests of engines."""

from pathlib import Path

import pytest

from personsearch.engines.state import VARIABLE


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of audit logs of stores on a server."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"
