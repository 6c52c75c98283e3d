"""From folders to a store with a model whose answers are known: everyone once, whatever happens."""

import errno
import io
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import av
import indexer
import numpy as np
import pytest
from blocks import GREEN, ORANGE, RED, Blocks, paint
from footage import film
from PIL import Image
from torch import Tensor

from personsearch.errors import StoreError
from personsearch.indexing.pipeline import WritingThread, index_media
from personsearch.indexing.report import IndexReport
from personsearch.indexing.writers import StoreWriter, open_writer
from personsearch.media import apart
from personsearch.media.damage import UnreadNowError
from personsearch.media.files import find_media
from personsearch.store import Filters, ModelIdentity, open_store
from personsearch.store.audit import AuditLog
from personsearch.types import Detections

WRITING = ["personsearch.indexing.pipeline", "personsearch.indexing.writers"]
MODEL = ModelIdentity("blocks", "c" * 64, 3)


def run(folder: Path, *sources: Path, model: Blocks | None = None) -> IndexReport:
    media, _ = find_media(sources)
    with open_store(folder, model=MODEL, write=True) as store:
        return index_media(model or Blocks(), StoreWriter(store), media)


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
        report = index_media(Blocks(), StoreWriter(store), media)
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


def video(path: Path, frames: int) -> Path:
    """Someone stands there, in another shade of red each ten frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj444p"
        for k in range(frames):
            pixels = np.zeros((32, 64, 3), np.uint8)
            pixels[:20, :10] = (255 - 5 * (k // 10), 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_killed_at_any_moment_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    """Twelve times, by processes forked from one that has imported all, so that it is quick."""
    photos, store, told = tmp_path / "photos", tmp_path / "store", tmp_path / "told"
    for number in range(60):
        paint(photos / f"{number:03}.png", (number % 255 + 1, 0, 9), (0, number % 200 + 3, 5))
    video(photos / "v.avi", 60)
    indexer.index(tmp_path / "undisturbed", photos, tmp_path / "all")
    everything = (tmp_path / "all").stat().st_size
    assert everything == 120
    told.touch()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cv2", "torch", *WRITING])
    generator, kills, moments = np.random.default_rng(1), 0, set()
    # Each is killed after some more pictures were acknowledged, and a moment that is chance.
    targets = sorted(generator.integers(0, everything - 20, 12).tolist())
    while True:
        before = told.stat().st_size
        process = context.Process(target=indexer.index, args=(store, photos, told))
        process.start()
        target = targets.pop(0) if targets else everything + 1
        while process.is_alive() and told.stat().st_size <= max(before, target):
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.01))
        if process.is_alive() and target <= everything:
            process.kill()
            kills += 1
        process.join(120)
        acknowledged = told.stat().st_size
        moments.add(acknowledged)
        with open_store(store) as opened:
            assert opened.damage() == ""
            # What was acknowledged is there, and at most one picture more for each kill.
            assert acknowledged <= opened.counts()["pictures"] <= acknowledged + kills
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert kills >= 9
    assert len(moments) > 7
    assert contents(store) == contents(tmp_path / "undisturbed")
    assert tracks(store) == tracks(tmp_path / "undisturbed")


def tracks(folder: Path) -> list[tuple[float, float, int]]:
    """First and last second and views of every track."""
    with open_store(folder) as store:
        people = store.people(store.embeddings()[0].tolist())
    return sorted({(p.track.first, p.track.last, p.track.views) for p in people if p.track})


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_full_disk_ends_it_and_loses_nothing(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for number in range(100):
        paint(photos / f"{number:03}.png", RED, GREEN)
    run(tmp_path / "undisturbed", photos)
    written: list[int] = []
    media, _ = find_media([photos])
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        store._connection.execute("PRAGMA max_page_count = 40")
        with pytest.raises(StoreError, match="the disk is full; make room and run the same"):
            index_media(
                *(Blocks(), StoreWriter(store), media),
                progress=lambda done, total, report: written.append(report.pictures),
            )
    assert 0 < written[-1] < 100
    with open_store(tmp_path / "store") as store:
        assert store.damage() == ""
        assert store.counts()["pictures"] == written[-1]
    # There is room again.
    assert run(tmp_path / "store", photos).pictures == 100 - written[-1]
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path: Path, photos: Path) -> None:
    media, _ = find_media([photos])
    refused: list[str] = []

    def second(done: int, total: int, report: IndexReport) -> None:
        with pytest.raises(StoreError) as caught, open_writer(tmp_path / "store", MODEL):
            pass
        refused.append(str(caught.value))

    with open_writer(tmp_path / "store", MODEL) as writer:
        report = index_media(Blocks(), writer, media, progress=second)
    assert report.pictures == 3
    assert len(refused) >= 4
    assert all("is writing to this store" in one for one in refused)


@pytest.mark.usefixtures("no_thread_is_left")
def test_several_decode_at_once(tmp_path: Path, photos: Path) -> None:
    for number in range(40):
        paint(photos / f"{number:03}.png", (number + 60, 0, 0))
    video(photos / "v.avi", 40)
    video(photos / "w.avi", 30)
    run(tmp_path / "one", photos)
    media, _ = find_media([photos])
    with open_store(tmp_path / "several", model=MODEL, write=True) as store:
        report = index_media(Blocks(), StoreWriter(store), media, decoders=4)
    assert (report.files, len(report.unreadable)) == (45, 1)
    assert contents(tmp_path / "several") == contents(tmp_path / "one")
    assert tracks(tmp_path / "several") == tracks(tmp_path / "one")


@pytest.mark.usefixtures("no_thread_is_left")
def test_all_is_done_in_order_by_another_thread() -> None:
    done: list[tuple[int, bool]] = []
    main = threading.current_thread()
    with WritingThread(behind=2) as writer:
        for k in range(50):
            writer.do(lambda k=k: done.append((k, threading.current_thread() is main)))
    assert done == [(k, False) for k in range(50)]


def test_what_was_given_is_done_when_the_block_fails() -> None:
    done: list[int] = []

    def give() -> None:
        with WritingThread(behind=9) as writer:
            for k in range(5):
                writer.do(lambda k=k: done.append(k))
            raise RuntimeError("the network")

    with pytest.raises(RuntimeError, match="the network"):
        give()
    assert done == list(range(5))


@pytest.mark.usefixtures("no_thread_is_left")
def test_nothing_is_done_after_a_failure() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError("the disk")

    def give() -> None:
        with WritingThread(behind=1) as writer:
            writer.do(fail)
            for _ in range(100):
                writer.do(lambda: done.append(1))

    with pytest.raises(OSError, match="the disk"):
        give()
    assert done == []
    with pytest.raises(OSError, match="the disk"), WritingThread() as writer:
        writer.do(fail)


def test_a_file_whose_decoder_is_killed_by_others_is_left_for_the_next_run(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a system that is short of memory: it says nothing about the file."""

    def killed(path: Path, *_: object, **__: object) -> object:
        if path.name == "a.png":
            raise UnreadNowError(f"{path}: its decoder was ended by signal 9 (Killed)")
        return read(path, *_, **__)

    read = apart.read_photo
    with monkeypatch.context() as patched:
        patched.setattr(apart, "read_photo", killed)
        report = run(tmp_path / "store", photos)
    assert [one.path.name for one in report.unreadable] == ["a.png", "c.jpg"]
    assert (report.pictures, report.files) == (2, 2)
    with open_store(tmp_path / "store") as store:
        assert [name for _, name, _ in store.unreadable()] == ["c.jpg"]
    report = run(tmp_path / "store", photos)
    assert (report.pictures, report.people, report.skipped) == (1, 2, 3)


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), MemoryError("full")], ids=str
)
def test_what_the_machine_lacks_ends_the_run_and_marks_no_file(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("personsearch.media.apart.open_regular", fail)
        with pytest.raises(type(error), match=r"Too many open files|full"):
            run(tmp_path / "store", photos)
    with open_store(tmp_path / "store") as store:
        assert store.unreadable() == []
    assert run(tmp_path / "store", photos).pictures == 3


@pytest.mark.timeout(60)
def test_a_decoder_that_dies_costs_its_file_alone(tmp_path: Path, photos: Path) -> None:
    apart.stop_decoders()
    apart.read_picture(photos / "a.png")
    (decoder,) = apart.idle_decoders()
    os.kill(decoder, signal.SIGSTOP)

    def end() -> None:
        time.sleep(0.5)
        os.kill(decoder, signal.SIGSEGV)
        os.kill(decoder, signal.SIGCONT)

    ending = threading.Thread(target=end)
    ending.start()
    report = run(tmp_path / "store", photos)
    ending.join()
    died, text = report.unreadable
    assert (died.path.name, text.path.name) == ("a.png", "c.jpg")
    assert died.reason == "its decoder was ended by signal 11 (Segmentation fault)"
    assert (report.pictures, report.files) == (2, 2)


class Counted(Blocks):
    """Counts the pictures that it sees."""

    pictures = 0

    def detect(self, images: list[Tensor]) -> list[Detections]:
        self.pictures += len(images)
        return super().detect(images)


def test_a_renamed_copy_of_an_erased_file_is_left_out_and_said(
    tmp_path: Path, photos: Path
) -> None:
    clip = photos / "clip.mp4"
    film(clip, 4)
    run(tmp_path / "store", photos)
    copies = {name: (photos / name).read_bytes() for name in ("a.png", "clip.mp4")}
    with open_store(tmp_path / "store", write=True) as store:
        store.erase_files(str(photos), list(copies))
        people = store.counts()["people"]
    looked = Counted()
    for name, data in copies.items():
        (photos / f"renamed {name}").write_bytes(data)
    report = run(tmp_path / "store", photos, model=looked)
    reasons = {one.path.name: one.reason for one in report.unreadable}
    assert reasons.keys() == {"renamed a.png", "renamed clip.mp4"}
    assert all("were erased; to add them again" in reason for reason in reasons.values())
    assert looked.pictures == 0
    assert run(tmp_path / "store", photos).skipped == 7
    with open_store(tmp_path / "store", write=True) as store:
        assert store.counts()["people"] == people
        store.unerase(str(photos), ["renamed a.png"])
    assert run(tmp_path / "store", photos).people == 4  # under both names


def test_a_file_that_was_only_touched_is_not_indexed_again(tmp_path: Path, photos: Path) -> None:
    run(tmp_path / "store", photos)
    with open_store(tmp_path / "store", write=True) as store:
        (person, *_), _ = store.embeddings(Filters(names=["a.png"]))
        store.erase(Filters(people=[int(person)]))
    before = contents(tmp_path / "store")
    os.utime(photos / "a.png", (5, 5))
    looked = Counted()
    report = run(tmp_path / "store", photos, model=looked)
    assert (report.skipped, report.unreadable, looked.pictures) == (4, [], 0)
    assert contents(tmp_path / "store") == before
    assert run(tmp_path / "store", photos).skipped == 4


def test_who_a_changed_file_showed_is_erased_by_the_one_path(tmp_path: Path, photos: Path) -> None:
    run(tmp_path / "store", photos)
    paint(photos / "a.png", ORANGE)
    with open_store(tmp_path / "store") as store:
        token = store.erasure()
    run(tmp_path / "store", photos)
    entries = list(AuditLog(tmp_path / "store").entries())
    assert [one.action for one in entries] == ["replace", "replaced"]
    assert entries[1].details == {"source": str(photos), "pictures": ["a.png"], "views": 2}
    with open_store(tmp_path / "store", write=True) as store:
        assert store.erasure() != token
        assert not store.scrubbed()
        store.expire()
        assert store.scrubbed()
