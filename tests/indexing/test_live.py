"""Cameras on this machine, which send in real time, break off and come back.

How quick the machine is must not matter: each run goes on until what it waits for has come.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from blocks import Blocks
from broadcast import Broadcast, over_http, over_rtsp
from torch import Tensor

from personsearch.errors import DataError
from personsearch.indexing.live import LiveFrames, index_streams
from personsearch.indexing.report import IndexReport
from personsearch.indexing.writers import StoreWriter
from personsearch.media.sampling import Sampling
from personsearch.media.streams import (
    Newest,
    Patience,
    Stream,
    StreamReader,
    StreamReport,
    parse_stream,
)
from personsearch.store import FileStamp, FoundPeople, ModelIdentity, Store, open_store
from personsearch.types import Detections

MODEL = ModelIdentity("blocks", "c" * 64, 3)
SECRET = "s3cret-word"
PATIENT = Patience(stall=60.0, pause=0.05, longest=0.2)
Enough = Callable[[IndexReport], bool]


def camera(broadcast: Broadcast, secret: str = SECRET) -> Stream:
    return parse_stream(broadcast.address.replace("://", f"://anna:{secret}@"), "gate")


class Until(Blocks):
    """Ctrl-C comes while it looks at the first picture after enough was written."""

    def __init__(self, enough: Enough, pause: float = 0.0) -> None:
        super().__init__()
        self.enough, self.pause = enough, pause
        self.told: list[IndexReport] = []

    def detect(self, images: list[Tensor]) -> list[Detections]:
        time.sleep(self.pause)
        if self.told and self.enough(self.told[-1]):
            raise KeyboardInterrupt
        return super().detect(images)


def run(
    store: Store,
    stream: Stream,
    enough: Enough,
    *,
    every: float = 0.0,
    pause: float = 0.0,
    **more: float,
) -> IndexReport:
    model = Until(enough, pause)
    report = index_streams(
        *(model, StoreWriter(store), [stream]),
        every=every,
        patience=PATIENT,
        progress=lambda done, total, report: model.told.append(report),
        duration=200.0,
        **more,
    )
    assert report.interrupted
    return report


@pytest.mark.parametrize("serve", [over_http, over_rtsp])
def test_a_camera_that_breaks_off_is_connected_again(
    tmp_path: Path, serve: Callable[[int], AbstractContextManager[Broadcast]]
) -> None:
    began = time.time()
    with (
        serve(12) as broadcast,
        open_store(tmp_path / "store", model=MODEL, write=True) as store,
    ):
        enough = lambda report: report.streams[0].connections >= 2 and report.pictures >= 4  # noqa: E731
        report = run(store, camera(broadcast), enough)
        (stream,) = report.streams
        assert stream.breaks >= stream.connections - 1 >= 1
        assert report.pictures == stream.pictures
        assert report.people == 2 * report.pictures
        known = store.known_files(broadcast.address)
        assert {file.state for file in known.values()} == {"whole"}
        people = store.people(store.embeddings()[0].tolist())
    assert report.files == len(known)
    # The pictures of both connections are of one segment, and its people are tracks.
    assert people
    for person in people:
        assert person.track is not None
        assert person.camera == "gate"
        assert person.source == broadcast.address
        assert person.time is not None
        assert began < person.time < time.time()
        assert person.position is not None
        assert 0 <= person.position < 300
    assert any(broadcast.asked)  # the password was sent,
    written = b"".join(path.read_bytes() for path in (tmp_path / "store").iterdir())
    assert SECRET.encode() not in written  # and written nowhere
    assert SECRET not in str(report.as_json())


@pytest.mark.parametrize(
    ("secret", "stall", "reason"),
    [(SECRET, 0.3, "sent nothing for too long"), ("wrong", 60.0, "refuses this user")],
)
def test_why_a_camera_sends_nothing(secret: str, stall: float, reason: str) -> None:
    with over_http(-1) as broadcast:
        stream, stop = camera(broadcast, secret), threading.Event()
        report = StreamReport(stream.uri, stream.camera)
        reader = StreamReader(
            *(stream, Newest(), report),
            sampling=Sampling(),
            patience=Patience(stall, 0.01, 0.02),
            stop=stop,
        )
        reader.thread.start()
        for _ in range(4000):
            if report.breaks >= 2:
                break
            time.sleep(0.05)
        stop.set()
        reader.thread.join()
    assert any(one.startswith(reason) for one in report.reasons)
    assert sum(report.reasons.values()) == report.breaks >= 2
    assert report.connections == 0
    assert "127.0.0.1" not in str(report.reasons)


def test_a_slow_network_sees_the_newest(tmp_path: Path) -> None:
    with (
        over_http(500) as broadcast,
        open_store(tmp_path / "store", model=MODEL, write=True) as store,
    ):
        report = run(store, camera(broadcast), lambda r: r.streams[0].dropped > 3, pause=0.3)
        (known,) = store.known_files(broadcast.address).values()
        frames = store.frames(known.id)
    assert report.streams[0].dropped > 3
    assert len(frames) == report.pictures > 0


def test_segments_end_and_are_files_of_their_own(tmp_path: Path) -> None:
    with (
        over_http(500) as broadcast,
        open_store(tmp_path / "store", model=MODEL, write=True) as store,
    ):
        report = run(store, camera(broadcast), lambda r: r.files >= 2, segment=1.0)
        known = store.known_files(broadcast.address)
    assert report.files == len(known) >= 2
    assert all(file.state == "whole" and file.frames for file in known.values())
    begins = [file.stamp.changed // 1_000_000_000 for file in known.values()]
    assert len(set(begins)) == len(begins)


def test_what_was_left_open_is_finished(tmp_path: Path) -> None:
    with over_http(-1) as broadcast:
        stream = camera(broadcast)
        vector = np.array([[1.0, 0.0, 0.0]], np.float32)
        box, score = np.array([[0, 0, 10, 20]], np.float32), np.array([0.9], np.float32)
        with open_store(tmp_path / "store", model=MODEL, write=True) as store:
            row = store.begin_file(stream.uri, "killed", FileStamp(0, 5), "gate")
            store.add(
                row,
                [
                    FoundPeople((64, 32), box, score, vector, [b""], k, float(k), 9.0 + k)
                    for k in range(9)
                ],
            )
            index_streams(Blocks(), StoreWriter(store), [stream], duration=0.5)
            assert store.known_files(stream.uri)["killed"].state == "whole"
            assert store.counts()["tracks"] == 1
            assert store.counts()["people"] == 5


class Pressed(Blocks):
    def detect(self, images: list[Tensor]) -> list[Detections]:
        raise KeyboardInterrupt


def test_ctrl_c_ends_it_whole(tmp_path: Path) -> None:
    with (
        over_http(500) as broadcast,
        open_store(tmp_path / "store", model=MODEL, write=True) as store,
    ):
        writer = StoreWriter(store)
        report = index_streams(Pressed(), writer, [camera(broadcast)], patience=PATIENT)
        assert store.known_files(broadcast.address) == {}
    assert report.interrupted
    assert report.pictures == 0


@pytest.mark.parametrize("wrong", [{"segment": 0.0}, {"duration": -1.0}])
def test_impossible_times(tmp_path: Path, wrong: dict[str, float]) -> None:
    with (
        open_store(tmp_path / "store", model=MODEL, write=True) as store,
        pytest.raises(DataError, match="expected more than 0"),
    ):
        index_streams(Blocks(), StoreWriter(store), [], **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "ended"), [(1000.0, 0), (970.0, 0), (3599.0, 0), (3600.0, 1), (900.0, 1), (9e9, 1)]
)
def test_a_clock_that_jumps_ends_a_segment(now: float, ended: int) -> None:
    stream = parse_stream("rtsp://cam/1")
    frames = LiveFrames([stream], [StreamReport("a", "b")], Sampling(), 3600.0, None, Patience())
    frames._open[stream] = frames._begin(stream, 1000.0)
    assert len(list(frames._ends(now))) == ended


def test_no_camera_is_nothing_to_do(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        report = index_streams(Blocks(), StoreWriter(store), [])
    assert (report.pictures, report.streams, report.interrupted) == (0, [], False)
