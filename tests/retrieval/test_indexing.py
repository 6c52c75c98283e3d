"""From folders to a store with a model whose answers are known: everyone once, whatever happens."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from blocks import GREEN, ORANGE, RED, Blocks, paint
from PIL import Image
from torch import Tensor

from personsearch.retrieval.indexing import IndexReport, index_media
from personsearch.retrieval.media import find_media
from personsearch.retrieval.store import Filters, ModelIdentity, open_store
from personsearch.types import Detections

MODEL = ModelIdentity("blocks", "c" * 64, 3)


def run(folder: Path, *sources: Path, model: Blocks | None = None) -> IndexReport:
    media, _ = find_media(sources)
    with open_store(folder, model=MODEL, write=True) as store:
        return index_media(model or Blocks(), store, media)


def contents(folder: Path) -> list[tuple[str, list[float], bytes]]:
    """Everyone: where, box, embedding; in an order of their own."""
    with open_store(folder) as store:
        ids, vectors = store.embeddings()
        people = store.people(ids.tolist())
        return sorted(
            (person.name, person.box.tolist(), vector.tobytes())
            for person, vector in zip(people, vectors, strict=True)
        )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    paint(root / "a.png", RED, GREEN)
    paint(root / "deep" / "b.png", ORANGE)
    paint(root / "empty.png")
    (root / "c.jpg").write_text("just text")
    return root


def test_everyone_is_found_once(tmp_path: Path, photos: Path) -> None:
    report = run(tmp_path / "store", photos)
    assert (report.pictures, report.people, report.files, report.skipped) == (3, 3, 3, 0)
    (unreadable,) = report.unreadable
    assert unreadable.path == photos / "c.jpg"
    assert unreadable.reason.startswith("is not a picture")
    with open_store(tmp_path / "store") as store:
        assert store.unreadable() == [(str(photos), "c.jpg", unreadable.reason)]
        (green,) = store.people(store.embeddings(Filters(names=("a.png",)))[0][1:].tolist())
        assert green.box.tolist() == [20.0, 0.0, 30.0, 20.0]
        assert green.camera == "photos"
        with Image.open(io.BytesIO(store.thumbnail(green.id))) as thumbnail:
            assert thumbnail.size == (10, 20)
            red, middle, blue = np.asarray(thumbnail)[10, 5].tolist()
        assert middle > 240 > 20 > max(red, blue)
    assert json.dumps(report.as_json())


def test_what_is_there_is_left_and_what_changed_is_done_again(tmp_path: Path, photos: Path) -> None:
    store = tmp_path / "store"
    run(store, photos)
    before = contents(store)
    report = run(store, photos)
    assert (report.pictures, report.skipped) == (0, 4)
    assert contents(store) == before
    paint(photos / "a.png", ORANGE)
    paint(photos / "new.png", RED)
    report = run(store, photos)
    assert (report.pictures, report.people, report.skipped) == (2, 2, 3)
    assert [(name, box[0]) for name, box, _ in contents(store)] == [
        ("a.png", 0.0),
        ("deep/b.png", 0.0),
        ("new.png", 0.0),
    ]


def test_an_erased_file_does_not_come_back(tmp_path: Path, photos: Path) -> None:
    run(tmp_path / "store", photos)
    with open_store(tmp_path / "store", write=True) as store:
        store.erase_files(str(photos), ["a.png"])
    paint(photos / "a.png", RED, RED)
    assert run(tmp_path / "store", photos).skipped == 4
    assert [name for name, _, _ in contents(tmp_path / "store")] == ["deep/b.png"]


def test_a_file_that_vanishes_is_counted(tmp_path: Path, photos: Path) -> None:
    media, _ = find_media([photos])
    (photos / "a.png").unlink()
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        report = index_media(Blocks(), store, media)
    assert [one.reason for one in report.unreadable] == [
        "no such picture",
        report.unreadable[1].reason,
    ]
    assert report.pictures == 2


class Interrupted(Blocks):
    """Ctrl-C comes while the second picture is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def detect(self, images: list[Tensor]) -> list[Detections]:
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
        return super().detect(images)


@pytest.mark.usefixtures("no_thread_is_left")
def test_ctrl_c_keeps_what_is_written(tmp_path: Path, photos: Path) -> None:
    run(tmp_path / "undisturbed", photos)
    report = run(tmp_path / "store", photos, model=Interrupted())
    assert report.interrupted
    assert report.pictures == 1
    assert not run(tmp_path / "store", photos).interrupted
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


class Broken(Blocks):
    def detect(self, images: list[Tensor]) -> list[Detections]:
        raise RuntimeError("the network failed")


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_network_that_fails_ends_it(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(RuntimeError, match="the network failed"):
        run(tmp_path / "store", photos, model=Broken())
    run(tmp_path / "store", photos)
    assert len(contents(tmp_path / "store")) == 3


INDEXER = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from test_indexing import run
run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_at_any_moment_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    photos, store = tmp_path / "photos", tmp_path / "store"
    for number in range(300):
        paint(photos / f"{number:03}.png", (number % 255 + 1, 0, 9), (0, number % 200 + 3, 5))
    run(tmp_path / "undisturbed", photos)
    here = Path(__file__).parent
    folders = [str(here), str(here.parent / "standins")]
    command = [sys.executable, "-c", INDEXER, str(store), str(photos), *folders]
    generator, kills = np.random.default_rng(1), 0
    while True:
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            # It takes seconds to import, then a second or two of work.
            while process.poll() is None and not (store / "people.sqlite").exists():
                time.sleep(0.02)
            grown = (store / "people.sqlite-wal", store / "people.sqlite")
            size = [path.stat().st_size if path.exists() else 0 for path in grown]
            while process.poll() is None and size == [
                path.stat().st_size if path.exists() else 0 for path in grown
            ]:
                time.sleep(0.01)
            time.sleep(generator.uniform(0.0, 0.3))
            if process.poll() is None and kills < 4:
                process.send_signal(signal.SIGKILL)
                kills += 1
            status = process.wait(60)
        with open_store(store) as opened:
            assert opened.damage() == ""
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert kills > 0
    assert contents(store) == contents(tmp_path / "undisturbed")
