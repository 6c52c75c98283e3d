"""Workers of a Ray cluster: the same store as plain indexing, whoever dies in between.

First with a stand-in for Ray, which is quick and does the same every time; then with Ray itself.
"""

import gc
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blocks import BROWN, RED, Blocks, paint
from footage import MODEL, Failing, LoadMortal, Poisoned, contents, shoot, unloadable
from footage import __file__ as footage_file
from pretended_ray import Died, PretendedRay
from torch import Tensor

from personsearch.errors import ModelError, StoreError
from personsearch.indexing import ray_workers
from personsearch.indexing.pipeline import index_media, index_with
from personsearch.indexing.ray_workers import Network, RayProcess, Settings, writes_itself
from personsearch.indexing.report import IndexReport
from personsearch.indexing.writers import StoreWriter, open_writer
from personsearch.media.files import find_media
from personsearch.store import open_store
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections

# Ray leaves sockets and files of its own to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> PretendedRay:
    pretended = PretendedRay()
    monkeypatch.setitem(sys.modules, "ray", pretended)
    return pretended


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One on this machine for all tests: starting it takes seconds."""
    import ray

    # Workers are new processes: they find the stand-ins as this one does.
    given = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(footage_file).parent), given])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for attempt in range(5):
            try:
                ray.init(
                    "local",
                    num_cpus=2,
                    include_dashboard=False,
                    object_store_memory=100_000_000,
                    log_to_driver=False,
                    logging_level="ERROR",
                )
                break
            except Exception:
                # It gives itself 30 seconds, which are few where other tests run beside.
                ray.shutdown()
                gc.collect()
                if attempt == 4:
                    raise
    os.environ["PYTHONPATH"] = given
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shoot(tmp_path_factory.mktemp("footage") / "all")


@pytest.fixture(scope="module")
def undisturbed(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as plain indexing makes it."""
    store = tmp_path_factory.mktemp("plain") / "store"
    with open_store(store, model=MODEL, write=True) as opened:
        index_media(Blocks(), StoreWriter(opened), find_media([footage])[0], every=0.0)
    return store


def index(
    place: str, folder: Path, load: Callable[[], PersonSearchModel], workers: int = 2
) -> IndexReport:
    media, _ = find_media([folder])
    own = place if writes_itself(place) else ""
    settings = Settings(0.0, 0.3, True, own, MODEL)
    with open_writer(place, MODEL) as writer:
        given = {"workers": workers, "device": "cpu", "shard_files": 4}
        return index_with(RayProcess("local", load, settings, writer, **given), writer, media)


@pytest.mark.parametrize("kind", ["store", "milvus-lite"])
@pytest.mark.parametrize("deaths", [(1,), (20, 2)])
def test_the_same_store_whoever_dies(
    tmp_path: Path, ray: PretendedRay, kind: str, deaths: tuple[int, ...]
) -> None:
    folder = shoot(tmp_path / "all", photos=6)
    with open_writer(tmp_path / "plain", MODEL) as writer:
        media, _ = find_media([folder])
        index_media(Blocks(), writer, media, every=0.0)
    left = list(deaths)

    class Mortal(Blocks):
        calls = 0

        def detect(self, images: list[Tensor]) -> list[Detections]:
            Mortal.calls += 1
            if left and Mortal.calls == left[0]:
                left.pop(0)
                Mortal.calls = 0
                raise Died
            return super().detect(images)

    place = str(tmp_path / "store") if kind == "store" else f"milvus-lite:{tmp_path / 'p.db'}"
    report = index(place, folder, Mortal)
    assert left == []
    assert contents(place) == contents(tmp_path / "plain")
    assert (report.files, len(report.unreadable)) == (9, 1)
    assert len(ray.made) <= 2 + len(deaths)
    assert {id(one) for one in ray.killed} == {id(one) for one in ray.made}


class Dying(Blocks):
    """Dies of every picture with someone in brown first."""

    def detect(self, images: list[Tensor]) -> list[Detections]:
        if (images[0][:, 5, 5] * 255).round().int().tolist() == list(BROWN):
            raise Died
        return super().detect(images)


def test_a_file_that_kills_pretended_workers_is_left_out(tmp_path: Path, ray: PretendedRay) -> None:
    for number in range(6):
        paint(tmp_path / "photos" / f"{number}.png", BROWN if number == 2 else RED)
    report = index(str(tmp_path / "store"), tmp_path / "photos", Dying)
    (bad,) = report.unreadable
    assert (bad.path.name, bad.reason) == ("2.png", "3 workers died while they indexed it")
    assert report.files == 5
    assert len(ray.made) <= 2 + 4
    assert [one[0] for one in contents(tmp_path / "store")] == [f"{n}.png" for n in (0, 1, 3, 4, 5)]


def test_what_a_pretended_worker_raises_is_told(tmp_path: Path, ray: PretendedRay) -> None:
    paint(tmp_path / "photos" / "a.png", RED)
    with pytest.raises(RuntimeError, match="the network failed"):
        index(str(tmp_path / "store"), tmp_path / "photos", Failing)
    assert ray.killed
    with pytest.raises(ModelError, match="cannot load the network: ValueError: no such network"):
        index(str(tmp_path / "store"), tmp_path / "photos", unloadable)


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_leaves_its_shard_to_another(
    footage: Path, undisturbed: Path, tmp_path: Path
) -> None:
    place = str(tmp_path / "store")
    (tmp_path / "deaths").mkdir()
    report = index(place, footage, LoadMortal(tmp_path / "deaths", times=2, at=3))
    assert len(list((tmp_path / "deaths").iterdir())) == 2
    assert contents(place) == contents(undisturbed)
    assert (report.files, len(report.unreadable)) == (15, 1)
    assert index(place, footage, Blocks).skipped == 16


@pytest.mark.usefixtures("cluster")
def test_a_file_that_kills_workers_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pretended workers die three times; here each death costs a process that loads torch."""
    monkeypatch.setattr(ray_workers, "MAX_DEATHS", 1)
    for number in range(6):
        paint(tmp_path / "photos" / f"{number}.png", BROWN if number == 2 else RED)
    report = index(str(tmp_path / "store"), tmp_path / "photos", Poisoned, workers=1)
    (bad,) = report.unreadable
    assert (bad.path.name, bad.reason) == ("2.png", "1 workers died while they indexed it")
    assert report.files == 5
    assert [one[0] for one in contents(tmp_path / "store")] == [f"{n}.png" for n in (0, 1, 3, 4, 5)]
    assert index(str(tmp_path / "store"), tmp_path / "photos", Blocks).skipped == 6


@pytest.mark.usefixtures("cluster")
def test_what_a_worker_raises_is_told(footage: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the network failed"):
        index(str(tmp_path / "store"), footage, Failing, workers=1)
    with pytest.raises(ModelError, match="cannot load the network: ValueError: no such network"):
        index(str(tmp_path / "store"), footage, unloadable, workers=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A Milvus server in a process of its own, one that speaks the protocol: Milvus Lite's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(tmp_path / "data")]
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(600):
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"milvus://127.0.0.1:{port}/people"
    process.terminate()
    process.wait(30)


@pytest.mark.usefixtures("cluster")
def test_workers_write_to_a_server_by_themselves(
    footage: Path, undisturbed: Path, tmp_path: Path, server: str
) -> None:
    (tmp_path / "deaths").mkdir()
    # One at a time: Milvus Lite's server takes one writer.
    load = LoadMortal(tmp_path / "deaths", times=1, at=6)
    report = index(server, footage, load, workers=1)
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    assert contents(server) == contents(undisturbed)
    assert (report.files, len(report.unreadable)) == (15, 1)
    assert (report.pictures, report.people) == (52, 83)


def test_no_cluster_and_another_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, footage: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StoreError, match=r"pip install 'personsearch\[ray\]'"):
        index(str(tmp_path / "store"), footage, Blocks)
    from personsearch import loading, model_identity

    monkeypatch.setattr(loading, "load", lambda *_: Blocks())
    monkeypatch.setattr(model_identity, "identify", lambda *_: MODEL)
    assert isinstance(Network("x", "cpu", MODEL.fingerprint)(), Blocks)
    with pytest.raises(ModelError, match="a worker has another network"):
        Network("x", "auto", "e" * 64)()
