"""What the driver makes of workers that die, without a cluster: quick, and the same every time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from blocks import BROWN, RED, Blocks, paint
from footage import MODEL, Failing, contents, shoot, unloadable
from pretended_ray import Died, PretendedRay
from torch import Tensor

from personsearch.errors import ModelError
from personsearch.indexing import ray_workers
from personsearch.indexing.pipeline import index_media, index_with
from personsearch.indexing.ray_workers import Settings, run_on_ray
from personsearch.indexing.report import IndexReport
from personsearch.indexing.writers import open_writer
from personsearch.media.files import find_media
from personsearch.systems.base import PersonSearchModel
from personsearch.types import Detections


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> PretendedRay:
    pretended = PretendedRay()
    monkeypatch.setattr(ray_workers, "_ray", lambda: pretended)
    return pretended


def index(place: str, folder: Path, load: Callable[[], PersonSearchModel]) -> IndexReport:
    media, _ = find_media([folder])
    settings = Settings(0.0, 0.3, True, "", MODEL)
    with open_writer(place, MODEL) as writer:
        given = {"workers": 2, "device": "cpu", "shard_files": 4}
        return index_with(run_on_ray("local", load, settings, writer, **given), writer, media)


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


class Poisoned(Blocks):
    """Dies of every picture with someone in brown first."""

    def detect(self, images: list[Tensor]) -> list[Detections]:
        if (images[0][:, 5, 5] * 255).round().int().tolist() == list(BROWN):
            raise Died
        return super().detect(images)


def test_a_file_that_kills_workers_is_left_out(tmp_path: Path, ray: PretendedRay) -> None:
    for number in range(6):
        paint(tmp_path / "photos" / f"{number}.png", BROWN if number == 2 else RED)
    report = index(str(tmp_path / "store"), tmp_path / "photos", Poisoned)
    (bad,) = report.unreadable
    assert (bad.path.name, bad.reason) == ("2.png", "3 workers died while they indexed it")
    assert report.files == 5
    assert len(ray.made) <= 2 + 4
    assert [one[0] for one in contents(tmp_path / "store")] == [f"{n}.png" for n in (0, 1, 3, 4, 5)]


def test_what_a_worker_raises_is_told(tmp_path: Path, ray: PretendedRay) -> None:
    paint(tmp_path / "photos" / "a.png", RED)
    with pytest.raises(RuntimeError, match="the network failed"):
        index(str(tmp_path / "store"), tmp_path / "photos", Failing)
    assert ray.killed
    with pytest.raises(ModelError, match="cannot load the network: ValueError: no such network"):
        index(str(tmp_path / "store"), tmp_path / "photos", unloadable)
