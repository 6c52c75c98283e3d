"""A small archive, and the service over it: in this process, or behind a real socket."""

import io
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from crowd import Color, make_store, open_crowd, scene
from PIL import Image
from starlette.testclient import TestClient

from personsearch.web.app import create_app
from personsearch.web.connections import server_config
from personsearch.web.listening import listen
from personsearch.web.service import Settings


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowd")
    make_store(folder)
    return folder


@pytest.fixture
def store(made_once: Path, tmp_path: Path) -> Path:
    """A store of this test's own."""
    shutil.copytree(made_once / "store", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def client(store: Path) -> Iterator[TestClient]:
    """The service, without keys."""
    with (
        open_crowd(store) as archive,
        TestClient(create_app(archive), base_url="http://localhost") as opened,
    ):
        yield opened


@contextmanager
def _serving(store: Path, settings: Settings | None = None) -> Iterator[str]:
    with open_crowd(store) as archive, listen("127.0.0.1", 0) as socket:
        app = create_app(archive, settings)
        server = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def serving() -> Callable[..., object]:
    """Serves a store at an address until the block ends."""
    return _serving


def _png(people: Mapping[int, Color]) -> bytes:
    written = io.BytesIO()
    Image.fromarray(scene(people)).save(written, "PNG")
    return written.getvalue()


@pytest.fixture(scope="session")
def png() -> Callable[[Mapping[int, Color]], bytes]:
    """A query picture."""
    return _png
