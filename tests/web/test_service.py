"""State of the service: its keys, and the network that it loads in the background."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from crowd import open_crowd
from PIL import Image
from starlette.requests import Request

from personsearch.errors import ModelError
from personsearch.media import apart
from personsearch.media.damage import UnreadNowError
from personsearch.search.archive import Archive
from personsearch.web.keys import Keys
from personsearch.web.service import LOCAL, Service, Settings


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


def test_it_stops_while_a_decoder_hangs(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PATIENCE", 3600.0)
    picture = store / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    apart.stop_decoders()
    apart.read_picture(picture)
    os.kill(*apart.idle_decoders(), signal.SIGSTOP)
    with open_crowd(store) as archive:
        service = Service(archive, Settings())

        async def hang_and_stop() -> None:
            asked = Request({"type": "http"}, asyncio.Event().wait)  # type: ignore[arg-type]
            work = service.heavy(asked, LOCAL, 64, lambda: apart.read_picture(picture))
            hanging = asyncio.create_task(work)
            while apart.idle_decoders():
                await asyncio.sleep(0.05)
            await asyncio.to_thread(service.close)
            with pytest.raises(UnreadNowError, match="was left because this run stops"):
                await hanging

        asyncio.run(hang_and_stop())


def test_a_network_that_cannot_be_loaded_is_reported(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Archive) -> None:
        raise ModelError("no weights")

    monkeypatch.setattr(Archive, "network", property(fails))
    with open_crowd(store) as archive:
        service = _loaded(Service(archive, Settings()))
        assert (service.network, service.problem) == ("failed", "no weights")
