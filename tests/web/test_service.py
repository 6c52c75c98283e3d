"""State of the service: its keys, and the network that it loads in the background."""

import time
from pathlib import Path

import pytest
from crowd import open_crowd

from personsearch.errors import ModelError
from personsearch.search.archive import Archive
from personsearch.web.keys import Keys
from personsearch.web.service import Service, Settings


def _loaded(service: Service) -> Service:
    service.warm()
    for _ in range(500):
        if service.network != "loading":
            break
        time.sleep(0.01)
    service.close()
    return service


def test_keys_are_needed_once_one_was_made(store: Path) -> None:
    with open_crowd(store) as archive:
        service = _loaded(Service(archive, Settings()))
        assert service.network == "ready"
        assert not service.keys_needed()
        assert Service(archive, Settings(keys_needed=True)).keys_needed()
        Keys(store).make("desk", ["search"])
        Keys(store).revoke("desk")
        assert service.keys_needed()


def test_a_network_that_cannot_be_loaded_is_reported(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Archive) -> None:
        raise ModelError("no weights")

    monkeypatch.setattr(Archive, "network", property(fails))
    with open_crowd(store) as archive:
        service = _loaded(Service(archive, Settings()))
        assert (service.network, service.problem) == ("failed", "no weights")
